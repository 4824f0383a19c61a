"""What people read: tables and hints."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group
from rich.table import Table

from postjournal.cli.local.status import ReplicaRow, SystemStatus

COLOURS = {"leader": "bold green", "standby": "green", "running": "green", "paused": "yellow"}
TROUBLE = {"down": "red", "halted": "red", "exited": "red"}


def status_tables(status: SystemStatus) -> Group:
    """Replicas above, the other services below."""
    return Group(_replica_table(status), "", _service_table(status), *_errors(status))


def where_and_what_next(addresses: Mapping[str, str]) -> str:
    """The addresses and the first things to try, after `up`."""
    post = (
        f"curl -s {addresses['gateway']}/api/v1/commands -H 'Content-Type: application/json' "
        "-H 'Prefer: wait=5'"
    )
    places = "\n".join(f"{name:<12} {place}" for name, place in addresses.items())
    return f"""
{places}

Move some money:
  {post} -d '{{"type":"open","account":"alice"}}'
  {post} -d '{{"type":"open","account":"bob"}}'
  {post} -d '{{"type":"deposit","account":"alice","amount":100}}'
  {post} -d '{{"type":"transfer","from":"alice","to":"bob","amount":30}}'
Then:
  ./postjournal status          who leads, who follows
  ./postjournal kill leader     another one takes over
  ./postjournal snapshot        a standby writes down the state
  ./postjournal logs -f         what everybody says
  ./postjournal down            stop everything
"""


def _replica_table(status: SystemStatus) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("REPLICA", "SHARD", "STATE", "EPOCH", "SEQ", "LAG", "DIGEST", "PROCESS", "HTTP"):
        table.add_column(title, justify="right" if title in ("EPOCH", "SEQ", "LAG") else "left")
    for row in status.replicas:
        table.add_row(*_replica_cells(row))
    return table


def _replica_cells(row: ReplicaRow) -> list[str]:
    return [
        row.name,
        str(row.shard),
        _coloured(row.state) + _progress(row),
        _text(row.epoch),
        _text(row.seq),
        _text(row.lag),
        (row.digest or "-")[:12],
        row.container or _text(row.pid),
        row.http,
    ]


def _progress(row: ReplicaRow) -> str:
    """How far a replica is that restores or catches up, and how long it still takes."""
    found = row.catch_up
    if found is None:
        return ""
    left = "" if found.left_s is None else f", {found.left_s:.0f} s left"
    return f" {100 * found.done // max(found.total, 1)}%{left}"


def _service_table(status: SystemStatus) -> Table:
    table = Table("SERVICE", "STATE", "PID", "ADDRESS", box=None, pad_edge=False)
    for name, row in sorted(status.services.items()):
        table.add_row(name, _coloured(row.state), _text(row.pid), row.address or "-")
    return table


def _errors(status: SystemStatus) -> list[str]:
    told = [(row.name, row.error) for row in status.replicas]
    told += [(name, row.error) for name, row in status.services.items()]
    return [f"{name}: {error}" for name, error in told if error]


def _coloured(state: str) -> str:
    colour = COLOURS.get(state) or TROUBLE.get(state)
    return f"[{colour}]{state}[/]" if colour else state


def _text(value: int | None) -> str:
    return "-" if value is None else str(value)
