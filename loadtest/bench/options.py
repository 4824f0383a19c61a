"""The options that all benches have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from loadtest.bench.report import REPORTS
from postjournal.cli.output import check_writable

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _writable(context: click.Context, _: click.Parameter, output: Path | None) -> Path | None:
    """Also where nothing is said: a bench takes minutes, and then there must be a place."""
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
replicas_option = click.option(
    "--replicas",
    type=click.IntRange(2, 20),
    default=3,
    show_default=True,
    help="Of the bench's own system.",
)
seed_option = click.option("--seed", default=1, show_default=True, help="Of all random choices.")


def report_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--json and --output."""
    return json_option(output_option(command))


def system_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--replicas and --attach."""
    return replicas_option(attach_option(command))
