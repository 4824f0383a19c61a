"""A command that is told to end, or whose terminal is closed, stops what it started."""

from __future__ import annotations

import os
import pty
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from loadtest import demo
from loadtest.bench_system import stage_of
from postjournal.cli import target
from postjournal.cli.commands import lifecycle
from postjournal.cli.errors import AlreadyRunning, NotFound
from postjournal.cli.interruption import ENDING, interruptible
from postjournal.cli.local.plan import Plan
from postjournal.cli.local.readiness import OnProgress, Progress, ignore_progress
from postjournal.cli.local.system import LocalSystem
from postjournal.cli.main import main
from tests.support.plan import PLAN


class Stray(Exception):
    """A signal that no command of ours took: it would have ended the process."""


def stray(number: int, _frame: object) -> None:
    raise Stray(signal.Signals(number).name)


@pytest.fixture(autouse=True)
def untaken() -> Iterator[None]:
    """Signals that nobody takes are told; outputs that were turned off are turned on again."""
    outputs = [(fd, os.dup(fd)) for fd in (1, 2)]
    handlers = [signal.signal(each, stray) for each in ENDING]
    yield
    assert [signal.getsignal(each) for each in ENDING] == [stray, stray]
    for each, handler in zip(ENDING, handlers, strict=True):
        signal.signal(each, handler)
    for fd, copy in outputs:
        os.dup2(copy, fd)
        os.close(copy)


def hit(number: int) -> None:
    os.kill(os.getpid(), number)


class Fake(LocalSystem):
    """Starts nothing. `hit_by`: a signal that arrives `at` some moment."""

    def __init__(self, directory: Path, hit_by: int = 0, at: str = "") -> None:
        super().__init__(directory)
        self.hit_by, self.at = hit_by, at
        self.stops, self.started = 0, False

    @property
    def plan(self) -> Plan:
        return PLAN

    @property
    def is_own(self) -> bool:
        return self.started

    def start(
        self, replicas: int = 3, shards: int = 1, on_progress: OnProgress = ignore_progress
    ) -> None:
        self.start_storage(on_progress)

    def start_storage(self, on_progress: OnProgress = ignore_progress) -> None:
        on_progress(Progress("kafka", "ready", ready=True))
        self.started = True
        if self.at == "the end of the start":
            hit(self.hit_by)

    def is_running(self) -> bool:
        hit(self.hit_by)
        return True

    def prove_identity(self) -> None:
        return

    def stop(self) -> None:
        """Once more, as a shell does that hangs up."""
        hit(signal.SIGTERM)
        hit(signal.SIGHUP)
        hit(signal.SIGINT)
        self.stops += 1
        self.started = False


both = pytest.mark.parametrize("number", ENDING)


@both
def test_the_first_signal_interrupts_and_a_second_one_does_not(number: int) -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        try:
            hit(number)
        finally:
            hit(signal.SIGHUP)
            hit(signal.SIGTERM)


def test_a_signal_that_is_ignored_from_the_start_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    with interruptible():
        hit(signal.SIGHUP)
    assert signal.signal(signal.SIGHUP, stray) is signal.SIG_IGN


@both
@pytest.mark.parametrize("at", ["the end of the start", "work"])
def test_the_kafka_of_kept_data_is_stopped(
    number: int, at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = Fake(tmp_path, number, at)
    monkeypatch.setattr(target, "LocalSystem", lambda _: system)
    with pytest.raises(KeyboardInterrupt), target.environment_with(None, tmp_path):
        hit(number)
    assert system.stops == 1


def test_the_kafka_of_data_that_is_in_use_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Busy(Fake):
        def start_storage(self, on_progress: OnProgress = ignore_progress) -> None:
            raise AlreadyRunning

    system = Busy(tmp_path)
    monkeypatch.setattr(target, "LocalSystem", lambda _: system)
    with pytest.raises(AlreadyRunning), target.environment_with(None, tmp_path):
        pass
    assert system.stops == 0


@both
def test_the_system_of_a_bench_is_stopped(number: int, tmp_path: Path) -> None:
    system = Fake(tmp_path / "bench")
    with pytest.raises(KeyboardInterrupt), stage_of(system, system.start_storage):
        hit(number)
    assert system.stops == 1


@both
@pytest.mark.parametrize("at", ["the end of the start", "work"])
def test_the_system_of_a_demo_is_stopped(
    number: int, at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing_runs() -> LocalSystem:
        raise NotFound

    system = Fake(tmp_path, number, at)
    monkeypatch.setattr(demo, "default_system", lambda: system)
    monkeypatch.setattr(demo, "running_system", nothing_runs)
    monkeypatch.setattr(demo, "wait_until_settled", lambda *_: hit(number))
    result = CliRunner().invoke(main, ["demo", "--local"])
    assert (result.exit_code, system.stops) == (1, 1), result.output


@both
@pytest.mark.parametrize("at", ["the end of the start", "work"])
def test_up_stops_what_it_started(
    number: int, at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = Fake(tmp_path, number, at)
    monkeypatch.setattr(lifecycle, "default_system", lambda: system)
    result = CliRunner().invoke(main, ["up", "--local"])
    assert (result.exit_code, system.stops) == (0, 1), result.output


CHILD = """
import signal, sys
from pathlib import Path
from postjournal.cli.interruption import interruptible

with interruptible():
    try:
        print("ready", flush=True)
        signal.pause()
    finally:
        print("stopping", file=sys.stderr, flush=True)
        Path(sys.argv[1]).touch()
"""


def test_a_command_whose_terminal_is_gone_still_stops_what_it_started(tmp_path: Path) -> None:
    mark = tmp_path / "stopped"
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", CHILD, str(mark)])
    assert os.read(terminal, 100).startswith(b"ready")
    os.close(terminal)
    os.waitpid(pid, 0)
    assert mark.exists()
