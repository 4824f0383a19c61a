"""Prometheus and promtool for tests: installed ones, or Debian's package unpacked beside them."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from postjournal.cli.local.layout import DEFAULT_DIRECTORY, PROJECT_ROOT
from postjournal.cli.local.ports import choose_ports

RULES = PROJECT_ROOT / "prometheus"
UNPACKED = DEFAULT_DIRECTORY / "prometheus-package"
ADVICE = "install Prometheus so that `prometheus` and `promtool` are on the PATH"


def prometheus_tool(name: str) -> str:
    """The path of `prometheus` or `promtool`; skips the test, saying why, where there is none."""
    found = shutil.which(name)
    if found is not None:
        return found
    unpacked = UNPACKED / "usr" / "bin" / name
    UNPACKED.mkdir(parents=True, exist_ok=True)
    with (UNPACKED / "lock").open("w") as lock:  # workers of pytest-xdist share the folder
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not unpacked.exists():
            _unpack()
    return str(unpacked)


def _unpack() -> None:
    """Debian's or Ubuntu's package; needs no root, since nothing is installed."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip(f"no promtool, and no apt-get to fetch it with: {ADVICE}")
    if not _fetch([]) and not _fetch(_own_lists()):
        pytest.skip(f"no promtool, and Debian's package cannot be fetched: {ADVICE}")
    package = next(UNPACKED.glob("prometheus_*.deb"))
    subprocess.run(["dpkg-deb", "-x", str(package), str(UNPACKED)], check=True)
    package.unlink()


def _fetch(options: list[str]) -> bool:
    command = ["apt-get", "-qq", *options, "download", "prometheus"]
    return subprocess.run(command, cwd=UNPACKED, capture_output=True, check=False).returncode == 0


def _own_lists() -> list[str]:
    """Fresh package lists in a folder of our own: the machine's may be missing, and are root's."""
    lists, cache = UNPACKED / "lists", UNPACKED / "cache"
    for folder in (lists / "partial", cache / "archives" / "partial"):
        folder.mkdir(parents=True, exist_ok=True)
    options = ["-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={cache}"]
    options += ["-o", "APT::Sandbox::User="]
    subprocess.run(["apt-get", "-qq", *options, "update"], capture_output=True, check=False)
    return options


class PrometheusServer:
    """A real Prometheus on a free port, with our rules, scraping `targets` each second."""

    def __init__(self, folder: Path, targets: Mapping[str, Sequence[str]]) -> None:
        """`targets`: job → addresses; they take the place of those in prometheus.yml."""
        self._folder = folder
        port = choose_ports({"prometheus": 9090}, prefer_wanted=False)["prometheus"]
        self.url = f"http://127.0.0.1:{port}"
        (folder / "prometheus.yml").write_text(_configuration(targets))
        self._command = [
            prometheus_tool("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]

    def __enter__(self) -> PrometheusServer:
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait(20)

    @property
    def is_ready(self) -> bool:
        """It answers queries."""
        assert self._process.poll() is None, (self._folder / "log").read_text()
        try:
            return requests.get(f"{self.url}/-/ready", timeout=1).ok
        except requests.RequestException:
            return False

    def at(self, expr: str, time_s: float) -> list[Any]:
        """The series of an instant query, without those that have no number."""
        return self._ask("query", query=expr, time=str(time_s))

    def over(self, expr: str, start_s: float, end_s: float) -> list[Any]:
        """The series of a range query, one value each second."""
        return self._ask("query_range", query=expr, start=str(start_s), end=str(end_s), step="1")

    def _ask(self, kind: str, **parameters: str) -> list[Any]:
        answer = requests.get(f"{self.url}/api/v1/{kind}", params=parameters, timeout=10).json()
        assert answer["status"] == "success", (parameters, answer)
        return [each for each in answer["data"]["result"] if _has_number(each)]


def _has_number(series: Any) -> bool:
    values = series.get("values") or [series["value"]]
    return any(value != "NaN" for _, value in values)


def _configuration(targets: Mapping[str, Sequence[str]]) -> str:
    found = yaml.safe_load((RULES / "prometheus.yml").read_text())
    found["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s"}
    found["global"]["evaluation_interval"] = "1s"
    found["rule_files"] = [str(RULES / name) for name in found["rule_files"]]
    jobs = [job["job_name"] for job in found["scrape_configs"] if job["job_name"] != "prometheus"]
    assert set(jobs) == set(targets)
    found["scrape_configs"] = [
        {"job_name": job, "static_configs": [{"targets": list(targets[job])}]} for job in jobs
    ]
    text: str = yaml.safe_dump(found)
    return text
