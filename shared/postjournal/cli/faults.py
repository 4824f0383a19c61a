"""`kill`, `pause`, `resume` and `handover`: harm a replica, or ask it to step down."""

from __future__ import annotations

import click

from postjournal.cli.errors import OperationFailed
from postjournal.cli.handover import hand_over
from postjournal.cli.local.status import SystemStatus
from postjournal.cli.modes import running_system

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
    click.echo(f"killed {name} (pid {system.kill(name)})")


@click.command()
@click.argument("replica")
@shard_option
def pause(replica: str, shard: int) -> None:
    """Freeze REPLICA (or `leader`) with SIGSTOP, as a long garbage collection would."""
    system = running_system()
    name = resolve(replica, system.status(), shard)
    click.echo(f"paused {name} (pid {system.pause(name)}); wake it: ./postjournal resume {name}")


@click.command()
@click.argument("replica")
@shard_option
def resume(replica: str, shard: int) -> None:
    """Let the paused REPLICA run again."""
    system = running_system()
    name = resolve(replica, system.status(), shard)
    click.echo(f"resumed {name} (pid {system.resume(name)})")


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
    names = list(dict.fromkeys(row.name for row in status.replicas))
    if replica not in names:
        raise OperationFailed(f"there is no replica {replica!r}; there are: {', '.join(names)}")
    return replica
