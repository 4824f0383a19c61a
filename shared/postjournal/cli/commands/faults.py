"""`kill`, `pause`, `resume` and `handover`: harm a replica, or ask it to step down."""

from __future__ import annotations

import time

import click

from postjournal.cli.commands.completion import complete_replica
from postjournal.cli.docker.system import DockerSystem
from postjournal.cli.errors import NotFound, OperationFailed
from postjournal.cli.handover import hand_over
from postjournal.cli.local.status import SystemStatus
from postjournal.cli.output import json_option, print_json
from postjournal.cli.running_system import running_system

REVIVE_S = 3.0
"""As the local mode's process manager waits."""

shard_option = click.option(
    "--shard", default=0, show_default=True, help="The shard that `leader` means."
)


@click.command()
@click.argument("replica", shell_complete=complete_replica)
@shard_option
@json_option
def kill(replica: str, shard: int, as_json: bool) -> None:
    """Kill REPLICA (or `leader`) with SIGKILL; it comes back after some seconds."""
    system = running_system()
    name = resolve(replica, system.status(), shard)
    _tell(name, "killed", system.kill(name), as_json=as_json)
    if isinstance(system, DockerSystem):  # which leaves alone what was killed by hand
        time.sleep(REVIVE_S)
        system.revive(name)
        if not as_json:
            click.echo(f"started {name} again")


@click.command()
@click.argument("replica", shell_complete=complete_replica)
@shard_option
@json_option
def pause(replica: str, shard: int, as_json: bool) -> None:
    """Freeze REPLICA (or `leader`) with SIGSTOP, as a long garbage collection would."""
    system = running_system()
    name = resolve(replica, system.status(), shard)
    hint = f"; wake it: ./postjournal resume {name}"
    _tell(name, "paused", system.pause(name), as_json=as_json, hint=hint)


@click.command()
@click.argument("replica", shell_complete=complete_replica)
@shard_option
@json_option
def resume(replica: str, shard: int, as_json: bool) -> None:
    """Let the paused REPLICA run again."""
    system = running_system()
    name = resolve(replica, system.status(), shard)
    _tell(name, "resumed", system.resume(name), as_json=as_json)


@click.command()
@click.option("--shard", default=0, show_default=True, help="The shard to hand over.")
@click.option(
    "--to",
    "successor",
    shell_complete=complete_replica,
    help="The replica that takes over; by default the quickest.",
)
@json_option
def handover(shard: int, successor: str | None, as_json: bool) -> None:
    """Ask a shard's leader to step down in favour of a standby."""
    done = hand_over(running_system(), shard, successor)
    if as_json:
        print_json(done)
        return
    click.echo(
        f"{done.leader} leads shard {shard} after {done.took_ms:.0f} ms (was {done.previous})"
    )


def resolve(replica: str, status: SystemStatus, shard: int) -> str:
    """The name of the replica that the operator means."""
    if replica == "leader":
        leader = status.leader(shard)
        if leader is None:
            raise OperationFailed(f"shard {shard} has no leader now: see `./postjournal status`")
        return leader
    for row in status.replicas:
        if replica in (row.name, row.container) or (row.container or "").endswith(f"-{replica}"):
            return row.name
    names = dict.fromkeys(row.container or row.name for row in status.replicas)
    raise NotFound(f"there is no replica {replica!r}; there are: {', '.join(names)}")


def _tell(name: str, done: str, what: int | str, *, as_json: bool, hint: str = "") -> None:
    """`what`: the pid of a local process, or a container."""
    if as_json:
        print_json({"replica": name, "done": done, "process": what})
        return
    process = f"pid {what}" if isinstance(what, int) else what
    click.echo(f"{done} {name} ({process}){hint}")
