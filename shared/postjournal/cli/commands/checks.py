"""`test`, `lint`, `format` and `lock`: the checks and tools of the checkout itself."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import FrameType

import click

from postjournal.cli.interruption import TERMINATION_SIGNALS, handlers, not_ignored
from postjournal.cli.local.layout import PROJECT_ROOT
from postjournal.config.variables import process_environment

UNIT = "tests/unit"
SIMULATION_TESTS = "tests/simulation"
SLOW = ("tests/contract", "tests/integration", "tests/e2e")
IN_CONTAINERS = ("tests/e2e/docker", "tests/e2e/docker_variants")
SIMULATION = "tests.simulation"
QUICK_SEEDS = "2000"
MAX_WORKERS = 4
"""Of the unit tests; more of them wait for the slowest tests. On 2 cores, 2 workers take 37 s
instead of 65 s."""

MAX_KAFKA_WORKERS = 2
"""Of the tests with a Kafka: each worker has a Kafka of its own, 0.7 GB with the replicas. On 2
cores, 2 workers take 505 s instead of 875 s."""

SCRIPTS = Path(sys.executable).parent
LINTERS = (
    ("ruff", "check"),
    ("ruff", "format", "--check"),
    ("mypy",),
    ("lint-imports", "--no-cache", "--no-logo"),
)
FORMATTERS = (
    ("ruff", "check", "--select", "I", "--fix"),
    ("ruff", "format"),
)

LOCKS = {
    "requirements-dev.txt": ("--group", "dev", "pyproject.toml"),
    "requirements.txt": ("pyproject.toml",),
    "requirements-load.txt": ("--group", "pyproject.toml:load"),
    "requirements-services.txt": ("--group", "pyproject.toml:services"),
}
"""Lock file → what is locked. The first one contains all, and constrains the others."""

COVERAGE_DATA = PROJECT_ROOT / ".postjournal" / "coverage"
STOP_AT_FAILURE = re.compile(r"-[lqsvx]*x[lqsvx]*|--exitfirst|--maxfail=1")
NOT_PARALLEL = re.compile(r"-n.*|--numprocesses.*|--dist.*|--pdb|--trace|-s|--capture=no")
"""Arguments of pytest that exclude several workers, or choose their number."""

NOTHING_COLLECTED = 5
"""pytest's exit code when no test matches its arguments."""

SIGNALED = 128
"""Shells add it to the number of the signal that ended a process."""

FORWARDED = (signal.SIGINT, *TERMINATION_SIGNALS)


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--quick", is_flag=True, help="Only the tests without Kafka, and fewer seeds.")
@click.option(
    "--coverage",
    is_flag=True,
    help="Measure coverage; all tests fail below `fail_under` of pyproject.toml.",
)
@click.option("--seed", type=int, help="Replay this seed of the simulation and print its trace.")
@click.option(
    "--planted-bugs",
    is_flag=True,
    help="Plant one bug after another in the engine; the simulation must find each.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def test(
    *,
    quick: bool,
    coverage: bool,
    seed: int | None,
    planted_bugs: bool,
    arguments: tuple[str, ...],
) -> None:
    """Run all tests, quick ones first, or those that ARGUMENTS name.

    ARGUMENTS go to pytest: `./postjournal test tests/unit/test_fold.py -k epoch` runs some tests
    of one file. The unit tests use several processes when all of them run.
    """
    if planted_bugs:
        sys.exit(_run_module(SIMULATION, "--planted-bugs", *arguments))
    if seed is not None:
        sys.exit(_run_module(SIMULATION, "--seed", str(seed)))
    runs = pytest_runs(quick, arguments, workers=min(os.cpu_count() or 1, MAX_WORKERS))
    if coverage:
        COVERAGE_DATA.mkdir(parents=True, exist_ok=True)
        runs = with_coverage(runs, has_threshold=not quick and not selects_tests(arguments))
    defaults = {"POSTJOURNAL_SIM_SEEDS": QUICK_SEEDS} if quick else {}
    stop_at_failure = any(map(STOP_AT_FAILURE.fullmatch, arguments))
    sys.exit(run_pytest(runs, defaults, stop_at_failure=stop_at_failure))


@click.command()
def lint() -> None:
    """Check style, types and the import layers."""
    sys.exit(_run_all(LINTERS))


@click.command("format")
def format_command() -> None:
    """Sort the imports and format the code."""
    sys.exit(_run_all(FORMATTERS))


@click.command()
@click.option("--upgrade", is_flag=True, help="Take the newest versions that pyproject allows.")
def lock(upgrade: bool) -> None:
    """Pin every dependency, with hashes, in requirements*.txt."""
    sys.exit(_run_all(lock_commands(upgrade=upgrade)))


def lock_commands(*, upgrade: bool) -> list[list[str]]:
    """Return a command of uv for each lock file, for every platform and Python from 3.11 on."""
    whole = next(iter(LOCKS))
    shared = ["--universal", "--python-version", "3.11", "--generate-hashes", "--quiet"]
    shared += ["--custom-compile-command", "./postjournal lock", "--no-annotate"]
    return [
        [
            *("uv", "pip", "compile", *shared, *inputs, "--output-file", file),
            *([] if file == whole else ["--constraints", whole]),
            *(["--upgrade"] if upgrade else []),
        ]
        for file, inputs in LOCKS.items()
    ]


def pytest_runs(quick: bool, arguments: Sequence[str], *, workers: int) -> list[list[str]]:
    """Return the arguments of each run of pytest.

    All directories in order of speed, unless the arguments name tests. With several `workers` the
    simulation is a run of its own, since it starts its own processes; of the tests with a Kafka
    those of one file, which share a running system, stay on one worker; and the tests in
    containers, which all use one deployment, are a run without workers.
    """
    named = _paths(arguments)
    if named and [path.rstrip("/") for path in named] != [UNIT]:
        return [list(arguments)]
    is_parallel = workers > 1 and not any(map(NOT_PARALLEL.fullmatch, arguments))
    if named:
        return [[*([f"-n{workers}"] if is_parallel else []), *arguments]]
    slow = () if quick else SLOW
    if not is_parallel:
        return [[UNIT, SIMULATION_TESTS, *slow, *arguments]]
    runs = [[UNIT, f"-n{workers}"], [SIMULATION_TESTS]]
    if slow:
        others = [f"--ignore={directory}" for directory in IN_CONTAINERS]
        parallel = [f"-n{min(workers, MAX_KAFKA_WORKERS)}", "--dist=loadfile"]
        runs += [[*slow, *others, *parallel], [*IN_CONTAINERS]]
    return [[*run, *arguments] for run in runs]


def selects_tests(arguments: Sequence[str]) -> bool:
    """Whether pytest's arguments select some of the tests: by path, -k or -m."""
    return bool(_paths(arguments)) or any(text.startswith(("-k", "-m")) for text in arguments)


def _paths(arguments: Sequence[str]) -> list[str]:
    """The arguments that are paths of tests, with or without `::` and a test's name."""
    return [text for text in arguments if (PROJECT_ROOT / text.split("::")[0]).exists()]


def with_coverage(runs: Sequence[Sequence[str]], *, has_threshold: bool) -> list[list[str]]:
    """Add the options that measure all runs into one report, which the last run prints.

    `has_threshold`: the last run fails below `fail_under` of pyproject.toml.
    """
    first, last = 0, len(runs) - 1
    return [
        [
            *run,
            "--cov",
            *(["--cov-append"] if number > first else []),
            "--cov-report=term:skip-covered" if number == last else "--cov-report=",
            *([] if number == last and has_threshold else ["--cov-fail-under=0"]),
        ]
        for number, run in enumerate(runs)
    ]


def run_pytest(
    runs: Sequence[Sequence[str]], defaults: Mapping[str, str], *, stop_at_failure: bool
) -> int:
    """Run pytest once for each list of arguments; return the first exit code of a failed run.

    `defaults`: environment variables for those that are not set.
    A run in which no test matches the arguments fails only if that holds for all runs.
    """
    codes: list[int] = []
    for arguments in runs:
        codes.append(_run_module("pytest", *arguments, defaults=defaults))
        failed = codes[-1] not in (0, NOTHING_COLLECTED)
        if failed and (stop_at_failure or codes[-1] != 1):  # 1: tests failed; more: interrupted
            break
    failures = [code for code in codes if code not in (0, NOTHING_COLLECTED)]
    return failures[0] if failures else min(codes)


def _run_all(scripts: Iterable[Sequence[str]]) -> int:
    """Run scripts of the virtual environment, all of them unless a signal ends one."""
    codes: list[int] = []
    for name, *arguments in scripts:
        codes.append(run_process([str(SCRIPTS / name), *arguments]))
        if codes[-1] > SIGNALED:
            break
    return 1 if any(codes) else 0


def _run_module(name: str, *arguments: str, defaults: Mapping[str, str] | None = None) -> int:
    return run_process([sys.executable, "-m", name, *arguments], defaults)


def run_process(command: Sequence[str], defaults: Mapping[str, str] | None = None) -> int:
    """Run a command in the checkout; return its exit code, or 128 + the signal that ended it.

    `defaults`: environment variables for those that are not set.
    Ctrl-C reaches the child from the terminal; SIGTERM and SIGHUP are passed to it. This process
    waits until the child has cleaned up.
    """
    received: list[int] = []
    child: subprocess.Popen[bytes] | None = None

    def handle(number: int, _frame: FrameType | None) -> None:
        if child is None:
            received.append(number)
        elif number != signal.SIGINT:
            child.send_signal(number)

    with handlers(not_ignored(FORWARDED), handle):
        environment = {**(defaults or {}), **process_environment()}
        child = subprocess.Popen(command, cwd=PROJECT_ROOT, env=environment)
        for number in received:
            child.send_signal(number)
        code = child.wait()
    return code if code >= 0 else SIGNALED - code
