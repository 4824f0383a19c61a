"""Command-line options that several commands have, and their exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from loadtest.progress import print_line
from postjournal.cli.local.layout import DEFAULT_DIRECTORY
from postjournal.cli.output import check_writable

Command = TypeVar("Command", bound=Callable[..., Any])

REPORTS = DEFAULT_DIRECTORY / "bench"


def _writable(context: click.Context, _: click.Parameter, output: Path | None) -> Path | None:
    """Check the default path as well: a bench takes minutes, and writes its report at the end."""
    if not context.resilient_parsing:
        check_writable(output or REPORTS / "NAME-TIME.json", "--output")
    return output


json_option = click.option("--json", "as_json", is_flag=True, help="Only JSON on stdout.")
output_option = click.option(
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=_writable,
    help="Where to write the JSON.  [default: .postjournal/bench/NAME-TIME.json]",
)
attach_option = click.option(
    "--attach",
    is_flag=True,
    help="Use the system that `./postjournal up` started (in containers too), not its own.",
)
seed_option = click.option(
    "--seed", default=1, show_default=True, help="Seed of all random choices."
)


def number_option(
    name: str, kind: click.IntRange | click.FloatRange, default: float, text: str | None = None
) -> Callable[[Command], Command]:
    """An option that is a number within bounds; its help shows the default."""
    return click.option(name, type=kind, default=default, show_default=True, help=text)


replicas_option = number_option(
    "--replicas", click.IntRange(2, 20), 3, "Replicas of the bench's own system."
)
accounts_option = number_option("--accounts", click.IntRange(2, 1_000_000), 1_000)


def exit_with(failures: Sequence[str]) -> None:
    """Print what failed and exit with code 1; return if nothing did."""
    for failure in failures:
        print_line(failure)
    if failures:
        sys.exit(1)
