"""`snapshot`, `snapshots` and `restore --dry-run`."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

from postjournal.cli.coordinator import CoordinatorClient, SnapshotRow
from postjournal.cli.errors import OperationFailed
from postjournal.cli.output import json_option, print_json
from postjournal.cli.running_system import coordinator_of, running_system

POLL_S = 0.1
ENDED = ("done", "failed")


@click.command()
@click.option("--shard", type=int, help="Only this shard; by default all of them.")
@click.option("--allow-leader", is_flag=True, help="Ask the leader when there is no standby.")
@click.option("--wait", "waiting", is_flag=True, help="Return when it is done and verified.")
@json_option
def snapshot(shard: int | None, allow_leader: bool, waiting: bool, as_json: bool) -> None:
    """Have a standby write down the state, at one offset of the journal."""
    coordinator = coordinator_of(running_system())
    snapshot_id, rows = coordinator.ask(shard, allow_leader=allow_leader)
    if waiting:
        rows = _wait(coordinator, snapshot_id, quiet=as_json)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(_sentence(row))


@click.command()
@json_option
def snapshots(as_json: bool) -> None:
    """List the snapshots, newest first, and those under way."""
    rows = coordinator_of(running_system()).snapshots()
    if as_json:
        print_json(rows)
    elif rows:
        Console(highlight=False).print(_table(rows))
    else:
        click.echo("there are no snapshots: take one with `./postjournal snapshot --wait`")


def _wait(coordinator: CoordinatorClient, snapshot_id: str, *, quiet: bool) -> list[SnapshotRow]:
    """Until every shard's is done; raises `OperationFailed` when one was given up."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    console = Console(stderr=True, quiet=quiet)
    with Progress(*columns, console=console, transient=True) as bars:
        tasks = {}
        while True:
            rows = coordinator.snapshot(snapshot_id)
            for row in rows:
                if row.shard not in tasks:
                    tasks[row.shard] = bars.add_task("", total=1.0)
                bars.update(
                    tasks[row.shard],
                    description=f"shard {row.shard}: {row.state} on {row.replica}",
                    completed=row.progress or 0.0,
                )
            failed = [row for row in rows if row.state == "failed"]
            if failed:
                raise OperationFailed(f"snapshot {snapshot_id} was given up: {failed[0].error}")
            if all(row.state == "done" for row in rows):
                return rows
            time.sleep(POLL_S)


def _sentence(row: SnapshotRow) -> str:
    if row.state != "done":
        return (
            f"snapshot {row.id} of shard {row.shard} is asked of {row.replica}; "
            "see `./postjournal snapshots`"
        )
    return (
        f"snapshot {row.id} of shard {row.shard}: offset {row.offset}, seq {row.seq}, "
        f"{size_text(row.size or 0)} in {(row.duration_ms or 0) / 1000:.1f} s by {row.replica}"
    )


def _table(rows: list[SnapshotRow]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("SNAPSHOT", "SHARD", "STATE", "OFFSET", "SEQ", "SIZE", "TOOK", "BY", "TAKEN"):
        table.add_column(title, justify="right" if title in RIGHT else "left")
    for row in rows:
        table.add_row(*_cells(row))
    return table


RIGHT = ("OFFSET", "SEQ", "SIZE", "TOOK")


def _cells(row: SnapshotRow) -> list[str]:
    state = row.state
    if row.progress is not None and row.state not in ENDED:
        state = f"{row.state} {row.progress:.0%}"
    return [
        row.id,
        str(row.shard),
        state,
        _text(row.offset),
        _text(row.seq),
        "-" if row.size is None else size_text(row.size),
        "-" if row.duration_ms is None else f"{row.duration_ms / 1000:.1f} s",
        row.replica,
        datetime.fromtimestamp(row.time / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ"),
    ]


def size_text(size: int) -> str:
    """Bytes for people."""
    if size < 1_000:
        return f"{size} B"
    return f"{size / 1_000_000:,.1f} MB" if size >= 100_000 else f"{size / 1_000:,.1f} kB"


def _text(value: int | None) -> str:
    return "-" if value is None else str(value)
