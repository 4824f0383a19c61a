"""`watch`: a live view of the cluster in the terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import click
import msgspec
from rich.console import Console
from rich.live import Live

from postjournal.cli.coordinator import Cluster, CoordinatorClient
from postjournal.cli.display.cluster import ClusterHistory, render
from postjournal.cli.errors import OperationFailed
from postjournal.cli.options import Range
from postjournal.cli.running_system import running_system

POLL_S = 0.25


@click.command()
@click.option("--seconds", type=Range(0.1), help="Stop after this time.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, 4 a second.")
def watch(seconds: float | None, as_json: bool) -> None:
    """Show leaders, rates and failovers until Ctrl-C.

    On a terminal as one live view; otherwise one line for each change.
    """
    coordinator = CoordinatorClient(running_system().plan.url("coordinator"))
    observations = _poll(coordinator, seconds)
    with contextlib.suppress(KeyboardInterrupt):
        if as_json:
            for cluster in observations:
                click.echo(msgspec.json.encode(cluster))
        elif Console().is_terminal:
            _draw(observations)
        else:
            _print_changes(observations)


def _poll(coordinator: CoordinatorClient, seconds: float | None) -> Iterator[Cluster]:
    """Errors after the first observation are ignored: the coordinator may be restarting."""
    end_s = None if seconds is None else time.monotonic() + seconds
    yield coordinator.cluster()
    while end_s is None or time.monotonic() < end_s:
        time.sleep(POLL_S)
        with contextlib.suppress(OperationFailed):
            yield coordinator.cluster()


def _draw(observations: Iterator[Cluster]) -> None:
    history = ClusterHistory()
    with Live(screen=True, refresh_per_second=8) as live:
        for cluster in observations:
            history.update(cluster, time.monotonic())
            live.update(render(cluster, history))


def _print_changes(observations: Iterator[Cluster]) -> None:
    history, is_first = ClusterHistory(), True
    for cluster in observations:
        changes = history.update(cluster, time.monotonic())
        if is_first:
            Console(highlight=False, width=140).print(render(cluster, history))
        for change in () if is_first else changes:
            at = datetime.now(UTC).strftime("%H:%M:%S.%f")[:-3]
            click.echo(f"{at}Z  {change}")
        is_first = False
