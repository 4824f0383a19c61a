"""`up` and `down`: starting and stopping the whole system."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass

import click

from postjournal.cli.display.startup import StartupDisplay
from postjournal.cli.display.status import next_steps
from postjournal.cli.docker import engine
from postjournal.cli.docker.containers import containers, volumes
from postjournal.cli.docker.system import DockerSystem
from postjournal.cli.errors import AlreadyRunning
from postjournal.cli.interruption import interruptible, uninterrupted
from postjournal.cli.local.system import LocalSystem
from postjournal.cli.output import print_json
from postjournal.cli.running_system import default_system


@dataclass(frozen=True)
class Size:
    """The number of replicas and shards to start."""

    replicas: int
    shards: int


@click.command()
@click.option(
    "--replicas",
    type=click.IntRange(1, 20),
    default=3,
    show_default=True,
    help="Number of replicas.",
)
@click.option(
    "--shards",
    type=click.IntRange(1, 100),
    default=1,
    show_default=True,
    help="Number of shards; fixed once there is a journal.",
)
@click.option("--local", "mode", flag_value="local", help="Local processes, even with Docker.")
@click.option("--docker", "mode", flag_value="docker", help="Docker Compose; fail without it.")
@click.option("--detach", "-d", is_flag=True, help="Return when the system is ready.")
@click.option("--without", multiple=True, metavar="SERVICE", help="Leave out SERVICE (Docker).")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the addresses as JSON; implies --detach."
)
def up(
    *,
    replicas: int,
    shards: int,
    mode: str | None,
    detach: bool,
    without: tuple[str, ...],
    as_json: bool,
) -> None:
    """Start the system and print its addresses.

    In containers where a Docker engine answers, otherwise as local processes.
    """
    size = Size(replicas, shards)
    if mode == "docker":
        engine.check_usable()
    with interruptible():
        if mode == "docker" or (mode is None and engine.is_usable()):
            _up_docker(size, without, detach=detach, as_json=as_json)
        else:
            _up_local(size, detach=detach, as_json=as_json)


@click.command()
@click.option("--wipe", is_flag=True, help="Also delete all data, including the journal.")
def down(wipe: bool) -> None:
    """Stop everything that `up` started."""
    system = default_system()
    if system.has_processes():
        click.echo("stopping…", err=True)
        system.stop()
        click.echo("stopped")
    elif engine.is_usable() and (containers() or (wipe and volumes())):
        engine.down(wipe)
        # Compose removes only the volumes of the files that it reads.
        if wipe and (left := volumes()):
            engine.run("volume", "rm", *left)
    else:
        click.echo("nothing is running")
    if wipe:
        system.delete_data()


def _up_docker(size: Size, without: tuple[str, ...], *, detach: bool, as_json: bool) -> None:
    engine.up(size.replicas, size.shards, engine.services(without) if without else ())
    _print_addresses(DockerSystem().plan.addresses, as_json=as_json)
    if detach or as_json:
        return
    click.echo("Ctrl-C stops everything.")
    with contextlib.suppress(KeyboardInterrupt):
        engine.compose(["logs", "--follow", "--tail", "0"])
    engine.down(wipe=False)


def _up_local(size: Size, *, detach: bool, as_json: bool) -> None:
    system = default_system()
    try:
        _start_local(system, size, as_json=as_json)
        _print_addresses(system.plan.addresses, as_json=as_json)
        if detach or as_json or not system.is_owner:
            return
        _wait_until_stopped(system)
    except KeyboardInterrupt:
        if not system.is_owner:
            raise
        click.echo("\nstopping…", err=True)
    with uninterrupted():
        system.stop()
    click.echo("stopped")


def _start_local(system: LocalSystem, size: Size, *, as_json: bool) -> None:
    try:
        with StartupDisplay() as display:
            system.start(size.replicas, size.shards, display)
    except AlreadyRunning:
        message = "already running: see `./postjournal status`, stop it with `./postjournal down`"
        click.echo(message, err=as_json)


def _print_addresses(addresses: Mapping[str, str], *, as_json: bool) -> None:
    if as_json:
        print_json(dict(addresses))
    else:
        click.echo(next_steps(addresses))


def _wait_until_stopped(system: LocalSystem) -> None:
    """Until Ctrl-C, SIGTERM or SIGHUP, or until `down` in another terminal."""
    click.echo("Ctrl-C stops everything.")
    while system.is_running():
        time.sleep(1)
