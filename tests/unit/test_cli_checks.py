"""`test`, `lint` and `format`: what they run, and their exit codes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from postjournal.cli.commands import checks
from postjournal.cli.commands.checks import (
    IN_CONTAINERS,
    SIMULATION_TESTS,
    SLOW,
    UNIT,
    pytest_runs,
    run_process,
    run_pytest,
    selects_tests,
    with_coverage,
)

ONE_TEST = "tests/unit/test_cli_checks.py::test_named_tests_run_alone"


def test_the_tests_run_from_quick_to_slow() -> None:
    assert pytest_runs(quick=False, arguments=["-x"], workers=1) == [
        [UNIT, SIMULATION_TESTS, *SLOW, "-x"]
    ]
    assert pytest_runs(quick=True, arguments=[], workers=1) == [[UNIT, SIMULATION_TESTS]]


def test_with_several_workers_the_unit_tests_are_a_parallel_run_of_their_own() -> None:
    assert pytest_runs(quick=True, arguments=["-x"], workers=2) == [
        [UNIT, "-n2", "-x"],
        ["tests/simulation", "-x"],
    ]
    assert pytest_runs(quick=False, arguments=[f"{UNIT}/"], workers=2) == [["-n2", f"{UNIT}/"]]


def test_the_tests_of_a_file_with_a_kafka_stay_on_one_worker() -> None:
    runs = pytest_runs(quick=False, arguments=[], workers=4)
    kafka, containers = runs[2:]
    assert [argument for argument in kafka if not argument.startswith("--ignore")] == [
        *SLOW,
        "-n2",
        "--dist=loadfile",
    ]
    assert {f"--ignore={directory}" for directory in containers} < set(kafka)
    assert containers == [*IN_CONTAINERS]


@pytest.mark.parametrize("argument", ["--pdb", "-s", "-n4", "--numprocesses=4"])
def test_an_argument_that_excludes_workers_runs_all_tests_at_once(argument: str) -> None:
    assert pytest_runs(quick=True, arguments=[argument], workers=2) == [
        [UNIT, SIMULATION_TESTS, argument]
    ]


def test_named_tests_run_alone() -> None:
    arguments = [ONE_TEST, "-v"]
    assert pytest_runs(quick=False, arguments=arguments, workers=2) == [arguments]


def test_all_runs_are_measured_into_one_report_with_a_threshold() -> None:
    first, last = with_coverage([["a"], ["b"]], has_threshold=True)
    assert first == ["a", "--cov", "--cov-report=", "--cov-fail-under=0"]
    assert last == ["b", "--cov", "--cov-append", "--cov-report=term:skip-covered"]


def test_the_threshold_applies_only_to_all_tests() -> None:
    (measured,) = with_coverage([["a"]], has_threshold=False)
    assert "--cov-fail-under=0" in measured
    assert selects_tests([ONE_TEST])
    assert selects_tests(["-k", "epoch"])
    assert not selects_tests(["-x", "--ignore=tests/e2e/docker"])


@pytest.mark.parametrize(
    ("codes", "stop_at_failure", "code", "runs"),
    [
        ([0, 0], False, 0, 2),
        ([1, 0], False, 1, 2),
        ([0, 1], False, 1, 2),
        ([1, 0], True, 1, 1),
        ([2, 0], False, 2, 1),  # Ctrl-C
        ([130, 0], False, 130, 1),
        ([5, 0], False, 0, 2),
        ([0, 5], True, 0, 2),
        ([5, 5], False, 5, 2),
        ([5, 1], False, 1, 2),
    ],
)
def test_the_exit_code_is_that_of_the_first_run_that_fails(
    codes: list[int],
    code: int,
    runs: int,
    *,
    stop_at_failure: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    remaining = list(codes)
    monkeypatch.setattr(checks, "_run_module", lambda *_, **__: remaining.pop(0))
    assert run_pytest([["a"], ["b"]], {}, stop_at_failure=stop_at_failure) == code
    assert len(codes) - len(remaining) == runs


def test_a_process_returns_its_exit_code_or_128_and_its_signal() -> None:
    assert run_process([sys.executable, "-c", "raise SystemExit(3)"]) == 3
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert run_process([sys.executable, "-c", killed]) == 128 + signal.SIGKILL


def test_a_default_applies_only_to_a_variable_that_is_not_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SET", "1")
    monkeypatch.delenv("UNSET", raising=False)
    check = "import os, sys; sys.exit(int(os.environ['SET'] + os.environ['UNSET']))"
    assert run_process([sys.executable, "-c", check], {"SET": "2", "UNSET": "2"}) == 12


CHILD = """
import signal, sys
CODES = {signal.SIGINT: 7, signal.SIGTERM: 8}
signal.pthread_sigmask(signal.SIG_BLOCK, CODES)  # a signal before `sigwait` is not lost
print("ready", flush=True)
sys.exit(CODES[signal.sigwait(CODES)])
"""
PARENT = f"""
import sys
from postjournal.cli.commands.checks import run_process
sys.exit(run_process([sys.executable, "-c", {CHILD!r}]))
"""


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[str]]:
    """A process that runs a child which is waiting for a signal."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_ctrl_c_reaches_the_child_and_its_exit_code_is_returned(
    parent: subprocess.Popen[str],
) -> None:
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does
    assert parent.wait(60) == 7


def test_sigterm_is_passed_to_the_child(parent: subprocess.Popen[str]) -> None:
    parent.terminate()
    assert parent.wait(60) == 8
