"""`status` and `logs`."""

from __future__ import annotations

import contextlib

import click
from rich.console import Console

from postjournal.cli.commands.completion import complete_log
from postjournal.cli.docker import engine
from postjournal.cli.docker.containers import containers
from postjournal.cli.errors import NotFound
from postjournal.cli.log_following import LogFile, follow
from postjournal.cli.output import json_option, print_json
from postjournal.cli.rendering import status_tables
from postjournal.cli.running_system import (
    default_system,
    running_system,
)

LEAST_WIDTH = 120
"""Lines that a narrow terminal breaks are better than names cut short."""


@click.command()
@json_option
def status(as_json: bool) -> None:
    """Show every replica and service."""
    found = running_system().status()
    if as_json:
        print_json(found)
    else:
        console = Console(highlight=False)
        console.width = max(console.width, LEAST_WIDTH)
        console.print(status_tables(found))


@click.command()
@click.argument("service", required=False, shell_complete=complete_log)
@click.option("--follow", "-f", "following", is_flag=True, help="Go on until Ctrl-C.")
@click.option("--lines", "-n", default=20, show_default=True, help="How much of the past.")
def logs(service: str | None, following: bool, lines: int) -> None:
    """Show the logs of SERVICE, or of all."""
    if not default_system().has_processes() and engine.is_usable() and containers():
        _docker_logs(service, following, lines)
        return
    files = _log_files(service)
    for file in files:
        for line in file.past(lines):
            click.echo(line)
    if following:
        with contextlib.suppress(KeyboardInterrupt):
            follow(files, click.echo)


def _docker_logs(service: str | None, following: bool, lines: int) -> None:
    options = ["--tail", str(lines), *(["--follow"] if following else [])]
    named = [each for each in containers() if service in (each.short_name, each.hostname)]
    with contextlib.suppress(KeyboardInterrupt):
        if named:
            engine.follow(["logs", *options, named[0].name])
        else:
            engine.compose(["logs", *options, *([service] if service else [])])


def _log_files(service: str | None) -> list[LogFile]:
    layout = default_system().layout
    names = sorted(path.stem for path in layout.logs.glob("*.log"))
    if service is None and names:
        return [LogFile(layout.log(name), f"{name} | ") for name in names]
    if service in names:
        return [LogFile(layout.log(service), "")]
    raise NotFound(
        f"there is no log of {service}; there are: {', '.join(names)}"
        if names
        else "there are no logs: start the system with `./postjournal up`"
    )
