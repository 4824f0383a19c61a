"""Prometheus and promtool for tests: installed ones, or Debian's package unpacked beside them."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from postjournal.cli.local.layout import DEFAULT_DIRECTORY

UNPACKED = DEFAULT_DIRECTORY / "prometheus-package"
ADVICE = "install Prometheus so that `prometheus` and `promtool` are on the PATH"


def prometheus_tool(name: str) -> str:
    """The path of `prometheus` or `promtool`; skips the test, saying why, where there is none."""
    found = shutil.which(name)
    if found is not None:
        return found
    unpacked = UNPACKED / "usr" / "bin" / name
    if not unpacked.exists():
        _unpack()
    return str(unpacked)


def _unpack() -> None:
    """Debian's or Ubuntu's package; needs no root, since nothing is installed."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip(f"no promtool, and no apt-get to fetch it with: {ADVICE}")
    UNPACKED.mkdir(parents=True, exist_ok=True)
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
