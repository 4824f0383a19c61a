"""A command that receives a signal, or whose terminal is closed, stops what it started."""

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
from loadtest.system import started
from postjournal.cli import target
from postjournal.cli.commands import lifecycle
from postjournal.cli.errors import AlreadyRunning, NotFound
from postjournal.cli.interruption import TERMINATION_SIGNALS, interruptible
from postjournal.cli.local.plan import Plan
from postjournal.cli.local.readiness import OnStep, StartupStep, ignore_step
from postjournal.cli.local.system import LocalSystem
from postjournal.cli.main import main
from tests.support.plan import PLAN


class Unhandled(Exception):
    """A signal without a handler: it would have ended the process."""


def unhandled(number: int, _frame: object) -> None:
    raise Unhandled(signal.Signals(number).name)


@pytest.fixture(autouse=True)
def unhandled_signals_fail() -> Iterator[None]:
    """Restores handlers, and outputs that were redirected, after each test."""
    outputs = [(fd, os.dup(fd)) for fd in (1, 2)]
    handlers = [signal.signal(number, unhandled) for number in TERMINATION_SIGNALS]
    yield
    assert [signal.getsignal(number) for number in TERMINATION_SIGNALS] == [unhandled] * 2
    for number, handler in zip(TERMINATION_SIGNALS, handlers, strict=True):
        signal.signal(number, handler)
    for fd, copy in outputs:
        os.dup2(copy, fd)
        os.close(copy)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


class Fake(LocalSystem):
    """Starts nothing. `signal_sent`: a signal that arrives `at` some moment."""

    def __init__(self, directory: Path, signal_sent: int = 0, at: str = "") -> None:
        super().__init__(directory)
        self.signal_sent, self.at = signal_sent, at
        self.stops, self.started = 0, False

    @property
    def plan(self) -> Plan:
        return PLAN

    @property
    def is_owner(self) -> bool:
        return self.started

    def start(self, replicas: int = 3, shards: int = 1, on_step: OnStep = ignore_step) -> None:
        self.start_storage(on_step)

    def start_storage(self, on_step: OnStep = ignore_step) -> None:
        on_step(StartupStep("kafka", "ready", ready=True))
        self.started = True
        if self.at == "the end of the start":
            send(self.signal_sent)

    def is_running(self) -> bool:
        send(self.signal_sent)
        return True

    def stop(self) -> None:
        """Sends every signal again, as a shell that hangs up does."""
        send(signal.SIGTERM)
        send(signal.SIGHUP)
        send(signal.SIGINT)
        self.stops += 1
        self.started = False


each_signal = pytest.mark.parametrize("number", TERMINATION_SIGNALS)


@each_signal
def test_the_first_signal_interrupts_and_a_second_one_does_not(number: int) -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        try:
            send(number)
        finally:
            send(signal.SIGHUP)
            send(signal.SIGTERM)


def test_a_signal_that_is_ignored_from_the_start_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    with interruptible():
        send(signal.SIGHUP)
    assert signal.signal(signal.SIGHUP, unhandled) is signal.SIG_IGN


@each_signal
@pytest.mark.parametrize("at", ["the end of the start", "work"])
def test_the_kafka_of_a_data_directory_is_stopped(
    number: int, at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = Fake(tmp_path, number, at)
    monkeypatch.setattr(target, "LocalSystem", lambda _: system)
    with pytest.raises(KeyboardInterrupt), target.open_target_environment(None, tmp_path):
        send(number)
    assert system.stops == 1


def test_the_kafka_of_a_data_directory_in_use_is_not_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Busy(Fake):
        def start_storage(self, on_step: OnStep = ignore_step) -> None:
            raise AlreadyRunning

    system = Busy(tmp_path)
    monkeypatch.setattr(target, "LocalSystem", lambda _: system)
    with pytest.raises(AlreadyRunning), target.open_target_environment(None, tmp_path):
        pass
    assert system.stops == 0


@each_signal
def test_the_system_of_a_bench_is_stopped(number: int, tmp_path: Path) -> None:
    system = Fake(tmp_path / "bench")
    with pytest.raises(KeyboardInterrupt), started(system, system.start_storage):
        send(number)
    assert system.stops == 1


@each_signal
@pytest.mark.parametrize("at", ["the end of the start", "work"])
def test_the_system_of_a_demo_is_stopped(
    number: int, at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing_runs() -> LocalSystem:
        raise NotFound

    system = Fake(tmp_path, number, at)
    monkeypatch.setattr(demo, "default_system", lambda: system)
    monkeypatch.setattr(demo, "running_system", nothing_runs)
    monkeypatch.setattr(demo, "wait_until_settled", lambda *_: send(number))
    result = CliRunner().invoke(main, ["demo", "--local"])
    assert (result.exit_code, system.stops) == (1, 1), result.output


@each_signal
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


def test_a_command_whose_terminal_is_closed_stops_what_it_started(tmp_path: Path) -> None:
    mark = tmp_path / "stopped"
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", CHILD, str(mark)])
    assert os.read(terminal, 100).startswith(b"ready")
    os.close(terminal)
    os.waitpid(pid, 0)
    assert mark.exists()
