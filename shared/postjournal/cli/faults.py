"""`kill`, `pause`, `resume` and `handover`: harm a replica, or ask it to step down."""

from __future__ import annotations

import time

import click

from postjournal.cli.docker.system import DockerSystem
from postjournal.cli.errors import OperationFailed
from postjournal.cli.handover import hand_over
from postjournal.cli.local.status import SystemStatus
from postjournal.cli.modes import running_system

REVIVE_S = 3.0
"""As the local mode's process manager waits."""

shard_option = click.option(
    "--shard", default=0, show_default=True, help="The shard that `leader` means."
)


@click.command()
@click.argument("replica")
@shard_option
def kill(replica: str, shard: int) -> None:
    """Kill REPLICA (or `leader`) with SIGKILL; it comes back after some seconds."""
    system = running_system()
    name = resolve(replica, system.status(), shard)
    click.echo(f"killed {name} ({_what(system.kill(name))})")
    if isinstance(system, DockerSystem):  # which leaves alone what was killed by hand
        time.sleep(REVIVE_S)
        system.revive(name)
        click.echo(f"started {name} again")


@click.command()
@click.argument("replica")
@shard_option
def pause(replica: str, shard: int) -> None:
    """Freeze REPLICA (or `leader`) with SIGSTOP, as a long garbage collection would."""
    system = running_system()
    name = resolve(replica, system.status(), shard)
    click.echo(f"paused {name} ({_what(system.pause(name))}); wake it: ./postjournal resume {name}")


@click.command()
@click.argument("replica")
@shard_option
def resume(replica: str, shard: int) -> None:
    """Let the paused REPLICA run again."""
    system = running_system()
    name = resolve(replica, system.status(), shard)
    click.echo(f"resumed {name} ({_what(system.resume(name))})")


@click.command()
@click.option("--shard", default=0, show_default=True, help="The shard to hand over.")
@click.option("--to", "successor", help="The replica that takes over; by default the quickest.")
def handover(shard: int, successor: str | None) -> None:
    """Ask a shard's leader to step down in favour of a standby."""
    done = hand_over(running_system(), shard, successor)
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
    raise OperationFailed(f"there is no replica {replica!r}; there are: {', '.join(names)}")


def _what(killed: int | str) -> str:
    """A local process or a container."""
    return f"pid {killed}" if isinstance(killed, int) else killed
