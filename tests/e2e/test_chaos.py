"""Half a minute of chaos: the audit finds nothing, and finds a change of the engine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadtest.chaos.report import CHART, JSON, MARKDOWN
from postjournal.cli.local.layout import PROJECT_ROOT

pytestmark = pytest.mark.kafka

Json = dict[str, Any]

ATTEMPTS = 3
NEVER = ("doubled", "gaps", "conflicts", "wrong")
"""The audit's findings that a slow machine cannot cause."""


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


def test_a_system_survives_chaos_and_the_report_has_what_happened(tmp_path: Path) -> None:
    missing: list[list[str]] = []
    while len(missing) < ATTEMPTS:
        # Seed 854: while no snapshot can be written, an engine and then a leader are killed.
        exit_code, report = chaos(tmp_path, "--seed", "854")
        verdict = report["verdict"]
        assert verdict["journal"]["sound"]
        for findings in (verdict["kafka"], verdict["gateway"]):
            assert not any(findings[fault] for fault in NEVER), verdict["faults"]
        injected = {fault["scheduled"]["kind"] for fault in report["injected"]}
        assert {"kill", "engine-kill", "disk-full"} <= injected
        assert all((tmp_path / name).stat().st_size for name in (JSON, MARKDOWN, CHART))
        missing.append(what_is_missing(report))
        if not missing[-1]:
            assert exit_code == 0
            return
        shutil.rmtree(report["kept"] or tmp_path / "none", ignore_errors=True)
    raise AssertionError(missing)


def what_is_missing(report: Json) -> list[str]:
    """What may not have happened on a busy machine in less than half a minute."""
    verdict = report["verdict"]
    expected = {
        "a takeover": report["takeovers"],
        "a failed snapshot": verdict["snapshots"].get("failed"),
        "a snapshot": any(shard["snapshots"] for shard in verdict["journal"]["shards"]),
        "an outcome from the gateway": verdict["gateway"]["outcomes"],
        "an answer to a repeat": verdict["kafka"]["replayed"],
    }
    faults: list[str] = verdict["faults"]
    return [name for name, found in expected.items() if not found] + faults


def test_an_engine_that_resumes_a_sink_one_too_late_is_caught(tmp_path: Path) -> None:
    engine = changed_engine(
        tmp_path,
        "state/outbox.py",
        "max(self.acknowledged, tail)",
        "max(self.acknowledged, tail + (tail > 0))",
    )
    # Seed 2414: the leader of one shard and the engine of the other's are killed.
    exit_code, report = chaos(tmp_path / "report", "--seed", "2414", "--engine", str(engine))
    shutil.rmtree(report["kept"], ignore_errors=True)
    assert exit_code == 1
    shards = report["verdict"]["journal"]["shards"]
    assert sum(shard["broken"].get("sink-dense", 0) for shard in shards) > 0
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
