"""`snapshot` and `snapshots`: taking one, and listing those that exist."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

from postjournal.cli.coordinator import CoordinatorClient, SnapshotRow
from postjournal.cli.display.tables import number_or_dash, plain_table
from postjournal.cli.errors import OperationFailed
from postjournal.cli.options import json_option
from postjournal.cli.output import print_json
from postjournal.cli.running_system import coordinator_of, running_system

POLL_S = 0.1
FINAL_STATES = ("done", "failed")


@click.command()
@click.option("--shard", type=int, help="Only this shard; default: all shards.")
@click.option("--allow-leader", is_flag=True, help="Use the leader where there is no standby.")
@click.option("--wait", "waiting", is_flag=True, help="Return when it is done and verified.")
@json_option
def snapshot(shard: int | None, allow_leader: bool, waiting: bool, as_json: bool) -> None:
    """Request a snapshot: a standby writes its state to the store."""
    coordinator = coordinator_of(running_system())
    snapshot_id, rows = coordinator.request_snapshot(shard, allow_leader=allow_leader)
    if waiting:
        rows = _wait(coordinator, snapshot_id, quiet=as_json)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(_description(row))


@click.command()
@json_option
def snapshots(as_json: bool) -> None:
    """List the snapshots, newest first, including those in progress."""
    rows = coordinator_of(running_system()).snapshots()
    if as_json:
        print_json(rows)
    elif rows:
        Console(highlight=False).print(_table(rows))
    else:
        click.echo("there are no snapshots: take one with `./postjournal snapshot --wait`")


def _wait(coordinator: CoordinatorClient, snapshot_id: str, *, quiet: bool) -> list[SnapshotRow]:
    """Wait until the snapshot of every shard is done; raise `OperationFailed` if one failed."""
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
                raise OperationFailed(f"snapshot {snapshot_id} failed: {failed[0].error}")
            if all(row.state == "done" for row in rows):
                return rows
            time.sleep(POLL_S)


def _description(row: SnapshotRow) -> str:
    if row.state != "done":
        return (
            f"snapshot {row.id} of shard {row.shard} was requested from {row.replica}; "
            "see `./postjournal snapshots`"
        )
    return (
        f"snapshot {row.id} of shard {row.shard}: offset {row.offset}, seq {row.seq}, "
        f"{size_text(row.size or 0)} in {(row.duration_ms or 0) / 1000:.1f} s by {row.replica}"
    )


def _table(rows: list[SnapshotRow]) -> Table:
    titles = ("SNAPSHOT", "SHARD", "STATE", "OFFSET", "SEQ", "SIZE", "TOOK", "BY", "TAKEN")
    table = plain_table(titles, right=("OFFSET", "SEQ", "SIZE", "TOOK"))
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: SnapshotRow) -> list[str]:
    state = row.state
    if row.progress is not None and row.state not in FINAL_STATES:
        state = f"{row.state} {row.progress:.0%}"
    return [
        row.id,
        str(row.shard),
        state,
        number_or_dash(row.offset),
        number_or_dash(row.seq),
        "-" if row.size is None else size_text(row.size),
        "-" if row.duration_ms is None else f"{row.duration_ms / 1000:.1f} s",
        row.replica,
        datetime.fromtimestamp(row.time / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ"),
    ]


def size_text(size_bytes: int) -> str:
    """Return a size as text: 812 B, 4.1 kB, 2.3 MB."""
    if size_bytes < 1_000:
        return f"{size_bytes} B"
    if size_bytes < 100_000:
        return f"{size_bytes / 1_000:,.1f} kB"
    return f"{size_bytes / 1_000_000:,.1f} MB"
