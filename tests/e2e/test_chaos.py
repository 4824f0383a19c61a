"""Half a minute of chaos: the system survives it, a changed engine does not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadtest.chaos.report import JSON, MARKDOWN, PICTURE
from postjournal.cli.local.layout import PROJECT_ROOT

pytestmark = pytest.mark.kafka

Json = dict[str, Any]

ATTEMPTS = 3
NEVER = ("doubled", "gaps", "conflicts", "wrong")
"""Of the audit's findings those for which no slowness is an excuse."""


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
    missing: list[list[str]] = []
    while len(missing) < ATTEMPTS:
        # Seed 120: the leader is killed while no snapshot can be written.
        exit_code, report = chaos(tmp_path, "--seed", "120")
        verdict = report["verdict"]
        assert verdict["journal"]["sound"]
        for findings in (verdict["kafka"], verdict["gateway"]):
            assert not any(findings[fault] for fault in NEVER), verdict["faults"]
        assert {"kill", "disk-full"} <= {blow["strike"]["kind"] for blow in report["blows"]}
        assert all((tmp_path / name).stat().st_size for name in (JSON, MARKDOWN, PICTURE))
        missing.append(what_is_missing(report))
        if not missing[-1]:
            assert exit_code == 0
            return
        shutil.rmtree(report["kept"] or tmp_path / "none", ignore_errors=True)
    raise AssertionError(missing)


def what_is_missing(report: Json) -> list[str]:
    """What a busy machine may not have come to in less than half a minute."""
    verdict = report["verdict"]
    wanted = {
        "a takeover": report["takeovers"],
        "a failed snapshot": verdict["snapshots"].get("failed"),
        "a snapshot": verdict["journal"]["shards"][0]["snapshots"],
        "an outcome from the gateway": verdict["gateway"]["outcomes"],
        "an answer to a repeat": verdict["kafka"]["replayed"],
    }
    faults: list[str] = verdict["faults"]
    return [name for name, found in wanted.items() if not found] + faults


def test_an_engine_that_resumes_a_sink_one_too_late_is_caught(tmp_path: Path) -> None:
    engine = changed_engine(
        tmp_path,
        "state/outbox.py",
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
