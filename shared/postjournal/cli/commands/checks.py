"""`test` and `lint`: the checks of the checkout itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import click

from postjournal.cli.local.layout import PROJECT_ROOT
from postjournal.config.variables import process_environment

QUICK = ("tests/unit", "tests/simulation")
SLOW = ("tests/contract", "tests/integration", "tests/e2e")
SIMULATION = "tests.simulation"
QUICK_SEEDS = "2000"
LINTERS = (
    ("ruff", "check"),
    ("ruff", "format", "--check"),
    ("mypy",),
)


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--quick", is_flag=True, help="Only the tests that need no Kafka, and fewer seeds.")
@click.option("--seed", type=int, help="Replay this seed of the simulation and print its trace.")
@click.option(
    "--planted-bugs",
    is_flag=True,
    help="Plant bugs in the engine, one after the other: the simulation must find each.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def test(quick: bool, seed: int | None, planted_bugs: bool, arguments: tuple[str, ...]) -> None:
    """Run the tests, the quick ones first; ARGUMENTS go to pytest."""
    os.chdir(PROJECT_ROOT)
    environment = process_environment()
    if quick:
        environment.setdefault("POSTJOURNAL_SIM_SEEDS", QUICK_SEEDS)
    if planted_bugs:
        command = [SIMULATION, "--planted-bugs", *arguments]
    elif seed is not None:
        command = [SIMULATION, "--seed", str(seed)]
    else:
        command = ["pytest", *pytest_arguments(quick, arguments)]
    # In place of this process: Ctrl-C reaches the tests alone, and their exit code is ours.
    os.execve(sys.executable, [sys.executable, "-m", *command], environment)


@click.command()
def lint() -> None:
    """Check style and types."""
    results = [
        subprocess.run([sys.executable, "-m", *linter], cwd=PROJECT_ROOT, check=False).returncode
        for linter in LINTERS
    ]
    sys.exit(1 if any(results) else 0)


def pytest_arguments(quick: bool, arguments: Sequence[str]) -> list[str]:
    """All directories in order of speed, unless the arguments name tests."""
    if any((PROJECT_ROOT / argument.split("::")[0]).exists() for argument in arguments):
        return list(arguments)
    return [*QUICK, *(() if quick else SLOW), *arguments]
