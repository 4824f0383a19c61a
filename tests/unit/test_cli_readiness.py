from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path

import pytest

from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.layout import Layout
from postjournal.cli.local.readiness import ReadinessWaiter, StartupStep
from postjournal.cli.local.supervisor import ProgramInfo


def always(*programs: ProgramInfo) -> Callable[[], Mapping[str, ProgramInfo]]:
    return lambda: {program.name: program for program in programs}


def running(name: str, pid: int = 1) -> ProgramInfo:
    return ProgramInfo(name, "RUNNING", pid, 0)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.create()
    return layout


def test_each_component_is_reported_when_it_becomes_ready(layout: Layout) -> None:
    steps: list[StartupStep] = []
    calls = count()
    waiting = ReadinessWaiter(layout, always(running("kafka"), running("redis")), steps.append)
    waiting.wait({"kafka": lambda: next(calls) >= 2, "redis": lambda: True}, timeout_s=10)
    assert [(step.component, step.ready) for step in steps] == [
        *(("kafka", False), ("redis", False)),
        *(("redis", True), ("kafka", True)),
    ]


def test_a_component_that_is_late_is_reported_with_the_end_of_its_log(
    layout: Layout,
) -> None:
    layout.log("kafka").write_text("first\nlast\n")
    with pytest.raises(OperationFailed, match=r"(?s)kafka is not ready after 0 s; .*last"):
        ReadinessWaiter(layout, always(running("kafka"))).wait(
            {"kafka": lambda: False}, timeout_s=0
        )


def test_a_service_that_keeps_exiting_fails_the_start_early(layout: Layout) -> None:
    layout.log("producer").write_text("ImportError: oh\n")
    pids = count(1)
    waiting = ReadinessWaiter(layout, lambda: {"producer": running("producer", next(pids))})
    with pytest.raises(OperationFailed, match=r"(?s)producer keeps exiting; .*ImportError: oh"):
        waiting.wait({"producer": lambda: False}, timeout_s=60)


def test_a_service_with_an_invalid_configuration_fails_the_start_at_once(layout: Layout) -> None:
    layout.log("replica-1").write_text("POSTJOURNAL_SHARDS='0': must be at least 1\n")
    waiting = ReadinessWaiter(layout, always(ProgramInfo("replica-1", "EXITED", None, 78)))
    with pytest.raises(OperationFailed, match="replica-1 has an invalid configuration: POST"):
        waiting.wait({"replica-1": lambda: False}, timeout_s=60)
