"""The tables of `status`, and what `up` prints when the system is ready."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from postjournal.cli.display.tables import number_or_dash, plain_table
from postjournal.cli.local.status import ReplicaRow, SystemStatus

COLORS = {
    "leader": "bold green",
    "standby": "green",
    "running": "green",
    "paused": "yellow",
    "down": "red",
    "halted": "red",
    "exited": "red",
}


def status_tables(status: SystemStatus) -> Group:
    """Return the table of replicas, that of the other services, and their errors."""
    return Group(_replica_table(status), "", _service_table(status), *_errors(status))


def next_steps(addresses: Mapping[str, str]) -> str:
    """Return what `up` prints: the addresses (by name) and the first commands to try."""
    post = (
        f"curl -s {addresses['gateway']}/api/v1/commands -H 'Content-Type: application/json' "
        "-H 'Prefer: wait=5'"
    )
    lines = "\n".join(f"{name:<12} {address}" for name, address in addresses.items())
    return f"""
{lines}

Transfer some money:
  {post} -d '{{"type":"open","account":"alice"}}'
  {post} -d '{{"type":"open","account":"bob"}}'
  {post} -d '{{"type":"deposit","account":"alice","amount":100}}'
  {post} -d '{{"type":"transfer","from":"alice","to":"bob","amount":30}}'
Then:
  ./postjournal status          show the leader and the standbys
  ./postjournal kill leader     kill the leader; a standby takes over
  ./postjournal snapshot        take a snapshot of the state
  ./postjournal logs -f         follow all logs
  ./postjournal down            stop everything
"""


def _replica_table(status: SystemStatus) -> Table:
    titles = ("REPLICA", "SHARD", "STATE", "EPOCH", "SEQ", "LAG", "DIGEST", "PROCESS", "HTTP")
    table = plain_table(titles, right=("EPOCH", "SEQ", "LAG"))
    for row in status.replicas:
        table.add_row(*_replica_cells(row))
    return table


def _replica_cells(row: ReplicaRow) -> list[str]:
    return [
        row.name,
        str(row.shard),
        _colored(row.state) + _catch_up(row),
        number_or_dash(row.epoch),
        number_or_dash(row.seq),
        number_or_dash(row.lag),
        (row.digest or "-")[:12],
        row.container or number_or_dash(row.pid),
        row.http,
    ]


def _catch_up(row: ReplicaRow) -> str:
    """The progress of a replica that restores or catches up, and the time it still needs."""
    progress = row.catch_up
    if progress is None:
        return ""
    left = "" if progress.left_s is None else f", {progress.left_s:.0f} s left"
    return f" {100 * progress.done // max(progress.total, 1)}%{left}"


def _service_table(status: SystemStatus) -> Table:
    table = plain_table(("SERVICE", "STATE", "PID", "ADDRESS"))
    for name, row in sorted(status.services.items()):
        table.add_row(name, _colored(row.state), number_or_dash(row.pid), row.address or "-")
    return table


def _errors(status: SystemStatus) -> list[str]:
    errors = [(row.name, row.error or _last_end(row)) for row in status.replicas]
    errors += [(name, row.error) for name, row in status.services.items()]
    return [escape(f"{name}: {error}") for name, error in errors if error]


def _last_end(row: ReplicaRow) -> str | None:
    return row.last_end and f"shard {row.shard}: its previous engine ended: {row.last_end}"


def _colored(state: str) -> str:
    color = COLORS.get(state)
    return f"[{color}]{state}[/]" if color else state
