"""`watch`: the cluster as it lives, in the terminal."""

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
from postjournal.cli.errors import OperationFailed
from postjournal.cli.ranges import Range
from postjournal.cli.running_system import coordinator_of, running_system
from postjournal.cli.watch.screen import (
    Seen,
    picture,
)

LOOK_EVERY_S = 0.25


@click.command()
@click.option("--seconds", type=Range(0.1), help="End after so long.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per look and line.")
def watch(seconds: float | None, as_json: bool) -> None:
    """Show who leads, how fast, and each failover with its phases, until Ctrl-C.

    On a terminal it is one picture that changes; elsewhere each change is a line.
    """
    coordinator = coordinator_of(running_system())
    looks = _looks(coordinator, seconds)
    with contextlib.suppress(KeyboardInterrupt):
        if as_json:
            for cluster in looks:
                click.echo(msgspec.json.encode(cluster))
        elif Console().is_terminal:
            _draw(looks)
        else:
            _tell(looks)


def _looks(coordinator: CoordinatorClient, seconds: float | None) -> Iterator[Cluster]:
    """A coordinator that is away for a moment is waited for, but for the first look."""
    end_s = None if seconds is None else time.monotonic() + seconds
    yield coordinator.cluster()
    while end_s is None or time.monotonic() < end_s:
        time.sleep(LOOK_EVERY_S)
        with contextlib.suppress(OperationFailed):
            yield coordinator.cluster()


def _draw(looks: Iterator[Cluster]) -> None:
    seen = Seen()
    with Live(screen=True, refresh_per_second=8) as live:
        for cluster in looks:
            seen.take(cluster, time.monotonic())
            live.update(picture(cluster, seen))


def _tell(looks: Iterator[Cluster]) -> None:
    seen, is_first = Seen(), True
    for cluster in looks:
        changes = seen.take(cluster, time.monotonic())
        if is_first:
            Console(highlight=False, width=140).print(picture(cluster, seen))
        for change in () if is_first else changes:
            at = datetime.now(UTC).strftime("%H:%M:%S.%f")[:-3]
            click.echo(f"{at}Z  {change}")
        is_first = False
