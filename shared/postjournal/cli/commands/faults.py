"""`kill`, `pause`, `resume` and `handover`: faults of one replica, and a change of leader."""

from __future__ import annotations

import signal
import time

import click

from postjournal.cli.commands.completion import complete_replica
from postjournal.cli.docker.system import DockerSystem
from postjournal.cli.errors import NotFound
from postjournal.cli.handover import hand_over
from postjournal.cli.local.programs import REPLICA_RESTART_S
from postjournal.cli.local.status import SystemStatus
from postjournal.cli.local.system import LocalSystem
from postjournal.cli.options import json_option
from postjournal.cli.output import print_json
from postjournal.cli.running_system import running_system

replica_argument = click.argument("replica", shell_complete=complete_replica)
shard_option = click.option(
    "--shard",
    default=0,
    show_default=True,
    help="The shard whose leader `leader` names, and that of --engine.",
)

DONE = {signal.SIGKILL: "killed", signal.SIGSTOP: "paused", signal.SIGCONT: "resumed"}

engine_option = click.option(
    "--engine", is_flag=True, help="Only the engine of the shard, not the whole replica."
)


@click.command()
@replica_argument
@shard_option
@engine_option
@json_option
def kill(replica: str, shard: int, engine: bool, as_json: bool) -> None:
    """Kill REPLICA (or `leader`); it restarts after 3 seconds.

    A single engine is restarted by its replica at once.
    """
    system = running_system()
    if engine:
        _signal_engine(system, replica, shard, signal.SIGKILL, as_json=as_json)
        return
    name = find_replica(replica, system.status(), shard)
    _print_result(name, "killed", system.kill(name), as_json=as_json)
    if isinstance(system, DockerSystem):  # Docker restarts no container after `docker kill`
        time.sleep(REPLICA_RESTART_S)
        system.start_replica(name)
        if not as_json:
            click.echo(f"restarted {name}")


@click.command()
@replica_argument
@shard_option
@engine_option
@json_option
def pause(replica: str, shard: int, engine: bool, as_json: bool) -> None:
    """Freeze REPLICA (or `leader`), as a suspended machine would.

    A single engine that is frozen is killed by its replica after 10 seconds, and restarted.
    """
    system = running_system()
    if engine:
        _signal_engine(system, replica, shard, signal.SIGSTOP, as_json=as_json)
        return
    name = find_replica(replica, system.status(), shard)
    hint = f"; resume it with ./postjournal resume {name}"
    _print_result(name, "paused", system.pause(name), as_json=as_json, hint=hint)


@click.command()
@replica_argument
@shard_option
@engine_option
@json_option
def resume(replica: str, shard: int, engine: bool, as_json: bool) -> None:
    """Resume the paused REPLICA."""
    system = running_system()
    if engine:
        _signal_engine(system, replica, shard, signal.SIGCONT, as_json=as_json)
        return
    name = find_replica(replica, system.status(), shard)
    _print_result(name, "resumed", system.resume(name), as_json=as_json)


@click.command()
@click.option("--shard", default=0, show_default=True, help="The shard to hand over.")
@click.option(
    "--to",
    "successor",
    shell_complete=complete_replica,
    help="The standby that takes over; default: the first that claims the shard.",
)
@json_option
def handover(shard: int, successor: str | None, as_json: bool) -> None:
    """Request a shard's leader to resign in favor of a standby."""
    result = hand_over(running_system(), shard, successor)
    if as_json:
        print_json(result)
        return
    click.echo(
        f"{result.leader} leads shard {shard} after {result.took_ms:.0f} ms "
        f"(previous leader: {result.previous})"
    )


def find_replica(replica: str, status: SystemStatus, shard: int) -> str:
    """Return the name of a replica given as `leader`, a name, a container, or a container's end.

    Raises `OperationFailed` when there is none.
    """
    if replica == "leader":
        return status.require_leader(shard)
    for row in status.replicas:
        if replica in (row.name, row.container) or (row.container or "").endswith(f"-{replica}"):
            return row.name
    names = dict.fromkeys(row.container or row.name for row in status.replicas)
    raise NotFound(f"there is no replica {replica!r}; replicas: {', '.join(names)}")


def _signal_engine(
    system: LocalSystem | DockerSystem,
    replica: str,
    shard: int,
    number: signal.Signals,
    *,
    as_json: bool,
) -> None:
    status = system.status()
    name = find_replica(replica, status, shard)
    row = next((row for row in status.replicas if (row.name, row.shard) == (name, shard)), None)
    if row is None:
        raise NotFound(f"{name} has no shard {shard}")
    process = system.signal_engine(row, number)
    done, hint = f"{DONE[number]} the engine of shard {shard} of", ""
    if number is signal.SIGSTOP:
        hint = f"; resume it with ./postjournal resume {name} --engine --shard {shard}"
    _print_result(name, done, process, as_json=as_json, hint=hint)


def _print_result(
    name: str, done: str, process: int | str, *, as_json: bool, hint: str = ""
) -> None:
    """`process`: the pid of a local process, or a container's name."""
    if as_json:
        print_json({"replica": name, "done": done, "process": process})
        return
    description = f"pid {process}" if isinstance(process, int) else process
    click.echo(f"{done} {name} ({description}){hint}")
