"""`status` and `logs`: what a running system shows of itself."""

from __future__ import annotations

import contextlib

import click
from rich.console import Console

from postjournal.cli.commands.completion import complete_log
from postjournal.cli.display.status import status_tables
from postjournal.cli.docker import engine
from postjournal.cli.docker.containers import containers
from postjournal.cli.errors import NotFound
from postjournal.cli.log_file import LogFile, follow
from postjournal.cli.options import json_option
from postjournal.cli.output import print_json
from postjournal.cli.running_system import default_system, running_system

MIN_WIDTH = 120
"""On a narrower terminal lines wrap, which is better than truncated names."""


@click.command()
@json_option
def status(as_json: bool) -> None:
    """Show the state of every replica and service."""
    found = running_system().status()
    if as_json:
        print_json(found)
    else:
        console = Console(highlight=False)
        console.width = max(console.width, MIN_WIDTH)
        console.print(status_tables(found))


@click.command()
@click.argument("service", required=False, shell_complete=complete_log)
@click.option("--follow", "-f", "following", is_flag=True, help="Print new lines until Ctrl-C.")
@click.option("--lines", "-n", default=20, show_default=True, help="Existing lines to print.")
def logs(service: str | None, following: bool, lines: int) -> None:
    """Print the log of SERVICE, or of every service."""
    if not default_system().has_processes() and engine.is_usable() and containers():
        _docker_logs(service, following, lines)
        return
    files = _log_files(service)
    for file in files:
        for line in file.tail(lines):
            click.echo(line)
    if following:
        with contextlib.suppress(KeyboardInterrupt):
            follow(files, click.echo)


def _docker_logs(service: str | None, following: bool, lines: int) -> None:
    options = ["--tail", str(lines), *(["--follow"] if following else [])]
    named = [found for found in containers() if service in (found.short_name, found.hostname)]
    with contextlib.suppress(KeyboardInterrupt):
        if named:
            engine.follow(["logs", *options, named[0].name])
        else:
            engine.compose(["logs", *options, *([service] if service else [])])


def _log_files(service: str | None) -> list[LogFile]:
    layout = default_system().layout
    names = layout.log_names()
    if service is None and names:
        return [LogFile(layout.log(name), f"{name} | ") for name in names]
    if service in names:
        return [LogFile(layout.log(service), "")]
    raise NotFound(
        f"there is no log of {service}; logs: {', '.join(names)}"
        if names
        else "there are no logs: start the system with `./postjournal up`"
    )
