"""`up` and `down`."""

from __future__ import annotations

import contextlib
import signal
import time

import click

from postjournal.cli.docker import engine
from postjournal.cli.docker.containers import containers
from postjournal.cli.docker.system import DockerSystem
from postjournal.cli.errors import AlreadyRunning
from postjournal.cli.local.system import LocalSystem
from postjournal.cli.modes import default_system
from postjournal.cli.progress import Reporter
from postjournal.cli.rendering import where_and_what_next


@click.command()
@click.option("--replicas", type=click.IntRange(1, 20), default=3, show_default=True)
@click.option("--shards", type=click.IntRange(1, 100), default=1, show_default=True)
@click.option("--local", "mode", flag_value="local", help="Local processes, even with Docker.")
@click.option("--docker", "mode", flag_value="docker", help="Docker Compose, or an error.")
@click.option("--detach", "-d", is_flag=True, help="Return when everything is ready.")
@click.option("--without", multiple=True, metavar="SERVICE", help="With Docker: leave one out.")
def up(
    replicas: int, shards: int, mode: str | None, detach: bool, without: tuple[str, ...]
) -> None:
    """Start the whole system and say where it is."""
    if mode == "docker":
        engine.check_usable()
    if mode == "docker" or (mode is None and engine.is_usable()):
        _up_docker(replicas, shards, detach, without)
    else:
        _up_local(replicas, shards, detach)


@click.command()
@click.option("--wipe", is_flag=True, help="Also delete all data: the journal is gone.")
def down(wipe: bool) -> None:
    """Stop everything that `up` started."""
    system = default_system()
    if system.has_processes():
        click.echo("stopping…", err=True)
        system.stop()
        click.echo("stopped")
    elif engine.is_usable() and containers():
        engine.down(wipe)
    else:
        click.echo("nothing is running")
    if wipe:
        system.delete_data()


def _up_docker(replicas: int, shards: int, detach: bool, without: tuple[str, ...]) -> None:
    engine.up(replicas, shards, engine.services(without) if without else ())
    click.echo(where_and_what_next(DockerSystem().plan.addresses))
    if detach:
        return
    click.echo("Ctrl-C stops everything.")
    with contextlib.suppress(KeyboardInterrupt):
        engine.compose(["logs", "--follow", "--tail", "0"])
    engine.down(wipe=False)


def _up_local(replicas: int, shards: int, detach: bool) -> None:
    system = default_system()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Reporter() as report:
            system.start(replicas, shards, report)
    except AlreadyRunning:
        click.echo("already running: see `./postjournal status`, stop it with `./postjournal down`")
        return
    click.echo(where_and_what_next(system.plan.addresses))
    if not detach:
        _stay(system)


def _stay(system: LocalSystem) -> None:
    """Until Ctrl-C or SIGTERM, or until someone else stops the system."""
    click.echo("Ctrl-C stops everything.")
    try:
        while system.is_running():
            time.sleep(1)
    except KeyboardInterrupt:
        click.echo("\nstopping…", err=True)
    system.stop()
    click.echo("stopped")
