"""`demo`: a system under load, faults in its leader, and an audit at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from loadtest.demo.display import Display
from loadtest.demo.scenario import Scenario
from loadtest.options import exit_with, number_option
from loadtest.progress import print_line, step
from loadtest.system import BenchSystem, wait_until_settled
from loadtest.workload.load import Load, opened
from loadtest.workload.replicas_check import check_replicas
from postjournal.cli.display.startup import StartupDisplay
from postjournal.cli.docker import engine
from postjournal.cli.docker.system import DockerSystem
from postjournal.cli.errors import OperationFailed
from postjournal.cli.interruption import interruptible, uninterrupted
from postjournal.cli.options import Range
from postjournal.cli.running_system import System, default_system, running_system
from postjournal.cluster.topics import DEFAULT_KEY, shard_of

REPLICAS, SHARDS = 3, 1


@click.command()
@click.option("--local", "mode", flag_value="local", help="Local processes, even with Docker.")
@click.option("--docker", "mode", flag_value="docker", help="Docker Compose, or an error.")
@number_option("--rate", Range(10, 2_000), 200, "Commands per second.")
@click.option("--keep", is_flag=True, help="Do not stop the system at the end.")
@click.option("--without", multiple=True, metavar="SERVICE", help="With Docker: omit a service.")
def demo(mode: str | None, rate: float, keep: bool, without: tuple[str, ...]) -> None:
    """Start a system, load it, kill, pause and replace its leader, and audit the results.

    A running system is used if there is one, and not stopped.
    """
    with interruptible(), _system(mode, keep, without) as system:
        shard = shard_of(DEFAULT_KEY, system.plan.shards)
        wait_until_settled(system, shard)
        with opened(Load(system, seed=1)) as load:
            display = Display(system, load, shard)
            with display.drawn():
                load.start(rate)
                Scenario(system, load, shard, display).run()
                load.stop()
            findings = load.findings()
            check = check_replicas(system, load.balances_by_shard())
    print_line(f"\n{findings.sent} commands were sent meanwhile. Was each decided once?")
    for line in (check.summary(), findings.summary()):
        print_line(line, markup=True)
    exit_with(findings.failures() + check.failures())


@contextmanager
def _system(mode: str | None, keep: bool, without: tuple[str, ...]) -> Iterator[BenchSystem]:
    running = _running()
    if running is not None:
        yield BenchSystem(running, running.plan, own=False)
        return
    deployment = _start(mode, without)
    try:
        yield BenchSystem(deployment, deployment.plan, own=False)
    finally:
        if keep:
            print_line("the system is still running: ./postjournal status, ./postjournal down")
        else:
            with uninterrupted():
                _stop(deployment)


def _running() -> System | None:
    try:
        return running_system()
    except OperationFailed:
        return None


def _start(mode: str | None, without: tuple[str, ...]) -> System:
    if mode == "docker":
        engine.check_usable()
    if mode == "docker" or (mode is None and engine.is_usable()):
        with step("starting the containers"):
            engine.up(REPLICAS, SHARDS, engine.services(without) if without else ())
        return DockerSystem()
    local = default_system()
    try:
        with StartupDisplay() as report:
            local.start(REPLICAS, SHARDS, report)
    except KeyboardInterrupt:
        with uninterrupted():
            if local.is_owner:  # the signal arrived after the start was complete
                local.stop()
        raise
    return local


def _stop(deployment: System) -> None:
    with step("stopping everything"):
        if isinstance(deployment, DockerSystem):
            engine.down(wipe=False)
        else:
            deployment.stop()
