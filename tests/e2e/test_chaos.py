"""Half a minute of chaos: the system survives it, a changed engine does not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from postjournal.cli.chaos.report import JSON, MARKDOWN, PICTURE
from postjournal.cli.local.layout import PROJECT_ROOT

pytestmark = pytest.mark.kafka

Json = dict[str, Any]


def chaos(output: Path, *arguments: str) -> tuple[int, Json]:
    """The exit code, and the report."""
    command = [sys.executable, "-m", "postjournal.cli", "chaos", "--minutes", "0.4", "--json"]
    done = subprocess.run(
        [*command, "--output", str(output), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=1_000,
    )
    assert done.stdout, done.stderr
    report: Json = msgspec.json.decode(done.stdout)
    return done.returncode, report


def test_a_system_survives_chaos_and_the_report_tells_how(tmp_path: Path) -> None:
    # Seed 120: the leader is killed while no snapshot can be written.
    exit_code, report = chaos(tmp_path, "--seed", "120")
    assert exit_code == 0, report["verdict"]["faults"]
    assert {"kill", "disk-full"} <= {blow["strike"]["kind"] for blow in report["blows"]}
    assert report["takeovers"] > 0
    assert report["verdict"]["snapshots"]["failed"] > 0
    assert report["verdict"]["journal"]["shards"][0]["snapshots"]
    assert report["verdict"]["journal"]["sound"]
    assert report["verdict"]["gateway"]["outcomes"] > 0
    assert report["verdict"]["kafka"]["replayed"] > 0
    assert all((tmp_path / name).stat().st_size for name in (JSON, MARKDOWN, PICTURE))


def test_an_engine_that_resumes_a_sink_one_too_late_is_caught(tmp_path: Path) -> None:
    engine = changed_engine(
        tmp_path,
        "outbox.py",
        "max(self.acknowledged, tail)",
        "max(self.acknowledged, tail + (tail > 0))",
    )
    exit_code, report = chaos(tmp_path / "report", "--seed", "7", "--engine", str(engine))
    shutil.rmtree(report["kept"], ignore_errors=True)
    assert exit_code == 1
    assert report["verdict"]["journal"]["shards"][0]["broken"]["sink-dense"] > 0
    assert report["verdict"]["kafka"]["gaps"] + report["verdict"]["gateway"]["gaps"] > 0


def changed_engine(folder: Path, module: str, old: str, new: str) -> Path:
    """A copy of `shared` with one line changed."""
    copy = folder / "shared"
    shutil.copytree(PROJECT_ROOT / "shared", copy, ignore=shutil.ignore_patterns("__pycache__"))
    file = copy / "postjournal" / "core" / module
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))
    return copy
