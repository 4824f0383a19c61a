"""`load`: runs locust against the running system's gateway."""

from __future__ import annotations

import os
import sys
import time

import click

from postjournal.cli.local.layout import DEFAULT_DIRECTORY, PROJECT_ROOT
from postjournal.cli.running_system import running_system

LOCUSTFILE = PROJECT_ROOT / "loadtest" / "gateway" / "locustfile.py"
REPORTS = DEFAULT_DIRECTORY / "load"


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--users", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--seconds", type=click.IntRange(1, 86_400), default=60, show_default=True)
@click.option("--web", is_flag=True, help="Start locust's web page, to start and watch load there.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def load(users: int, seconds: int, web: bool, arguments: tuple[str, ...]) -> None:
    """Load the gateway; ARGUMENTS are passed to locust.

    Exits with code 1 when a threshold was missed. The environment variables in
    loadtest/gateway/options.py set what is sent and the thresholds. Each user sends up to
    LOAD_RATE requests a second.
    """
    url = running_system().plan.url("producer")
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", url]
    if not web:
        report = REPORTS / f"{time.strftime('%Y%m%d-%H%M%S')}.html"
        report.parent.mkdir(parents=True, exist_ok=True)
        command += ["--headless", "--only-summary", "--html", str(report)]
        command += ["--users", str(users), "--spawn-rate", str(users)]
        command += ["--run-time", f"{seconds}s", "--stop-timeout", "10"]
        click.echo(f"report: {report}", err=True)
    # Replaces this process, so that locust alone gets Ctrl-C, and its exit code is the command's.
    os.execv(command[0], [*command, *arguments])
