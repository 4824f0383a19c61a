from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path

import pytest

from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.layout import Layout
from postjournal.cli.local.readiness import Progress, Waiting
from postjournal.cli.local.supervisor import Program


def always(*programs: Program) -> Callable[[], Mapping[str, Program]]:
    return lambda: {program.name: program for program in programs}


def running(name: str, pid: int = 1) -> Program:
    return Program(name, "RUNNING", pid, 0)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.create()
    return layout


def test_each_component_is_reported_when_it_becomes_ready(layout: Layout) -> None:
    steps: list[Progress] = []
    asked = count()
    waiting = Waiting(layout, always(running("kafka"), running("redis")), steps.append)
    waiting.wait({"kafka": lambda: next(asked) >= 2, "redis": lambda: True}, timeout_s=10)
    assert [(step.component, step.ready) for step in steps] == [
        *(("kafka", False), ("redis", False)),
        *(("redis", True), ("kafka", True)),
    ]


def test_a_component_that_is_late_is_named_with_the_end_of_its_log(layout: Layout) -> None:
    layout.log("kafka").write_text("first\nlast\n")
    with pytest.raises(OperationFailed, match=r"(?s)kafka is not ready after 0 s; .*last"):
        Waiting(layout, always(running("kafka"))).wait({"kafka": lambda: False}, timeout_s=0)


def test_a_service_that_keeps_ending_fails_the_start_early(layout: Layout) -> None:
    layout.log("producer").write_text("ImportError: oh\n")
    pids = count(1)
    waiting = Waiting(layout, lambda: {"producer": running("producer", next(pids))})
    with pytest.raises(OperationFailed, match=r"(?s)producer keeps ending; .*ImportError: oh"):
        waiting.wait({"producer": lambda: False}, timeout_s=60)


def test_a_service_that_refuses_its_configuration_fails_the_start_at_once(layout: Layout) -> None:
    layout.log("replica-1").write_text("POSTJOURNAL_SHARDS='0': must be at least 1\n")
    waiting = Waiting(layout, always(Program("replica-1", "EXITED", None, 78)))
    with pytest.raises(OperationFailed, match="replica-1 refuses its configuration: POSTJOURNAL"):
        waiting.wait({"replica-1": lambda: False}, timeout_s=60)
