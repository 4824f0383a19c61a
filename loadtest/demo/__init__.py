"""`demo`: the system under load, its leader killed before your eyes, and the audit at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from loadtest.bench.replicas_check import check_faults, check_line, check_replicas
from loadtest.bench.report import conclude, findings_faults, findings_line
from loadtest.bench_system import (
    Stage,
    wait_until_settled,
)
from loadtest.demo.board import Board
from loadtest.demo.play import Play
from loadtest.progress import (
    say,
    step,
)
from loadtest.workload.audit import Findings
from loadtest.workload.load import load_on
from postjournal.cli.docker import engine
from postjournal.cli.docker.system import DockerSystem
from postjournal.cli.errors import OperationFailed
from postjournal.cli.interruption import interruptible, uninterrupted
from postjournal.cli.progress import Reporter
from postjournal.cli.ranges import Range
from postjournal.cli.running_system import (
    System,
    default_system,
    running_system,
)
from postjournal.cluster.topics import DEFAULT_KEY, shard_of

REPLICAS, SHARDS = 3, 1


@click.command()
@click.option("--local", "mode", flag_value="local", help="Local processes, even with Docker.")
@click.option("--docker", "mode", flag_value="docker", help="Docker Compose, or an error.")
@click.option("--rate", type=Range(10, 2_000), default=200, show_default=True)
@click.option("--keep", is_flag=True, help="Leave the system running, to go on with.")
@click.option("--without", multiple=True, metavar="SERVICE", help="With Docker: leave one out.")
def demo(mode: str | None, rate: float, keep: bool, without: tuple[str, ...]) -> None:
    """Start the system, load it, kill its leader, and see what happens; ends with an audit.

    A system that is running is used, and left running. RATE: commands per second.
    """
    with interruptible(), _stage(mode, keep, without) as stage:
        shard = shard_of(DEFAULT_KEY, stage.plan.shards)
        wait_until_settled(stage, shard)
        with load_on(stage, seed=1) as load:
            with Board(stage, load, shard) as board:
                load.start(rate)
                Play(stage, load, shard, board).run()
                load.stop()
            findings = load.findings()
            check = check_replicas(stage, {shard: load.auditor.balances})
    _tell(findings, [check_line(check), findings_line(findings)])
    conclude(findings_faults(findings) + check_faults(check))


def _tell(findings: Findings, lines: list[str]) -> None:
    say(f"\n{findings.sent} commands were sent while all that happened. Was each decided once?")
    for line in lines:
        say(line, markup=True)


@contextmanager
def _stage(mode: str | None, keep: bool, without: tuple[str, ...]) -> Iterator[Stage]:
    found = _running()
    if found is not None:
        yield Stage(found, found.plan, own=False)
        return
    system = _started(mode, without)
    try:
        yield Stage(system, system.plan, own=False)
    finally:
        if keep:
            say("it goes on running: ./postjournal status, ./postjournal down")
        else:
            with uninterrupted():
                _stop(system)


def _running() -> System | None:
    try:
        return running_system()
    except OperationFailed:
        return None


def _started(mode: str | None, without: tuple[str, ...]) -> System:
    if mode == "docker":
        engine.check_usable()
    if mode == "docker" or (mode is None and engine.is_usable()):
        with step("starting the containers"):
            engine.up(REPLICAS, SHARDS, engine.services(without) if without else ())
        return DockerSystem()
    system = default_system()
    try:
        with Reporter() as report:
            system.start(REPLICAS, SHARDS, report)
    except KeyboardInterrupt:
        with uninterrupted():
            if system.is_own:  # it came when everything was ready
                system.stop()
        raise
    return system


def _stop(system: System) -> None:
    with step("stopping everything"):
        if isinstance(system, DockerSystem):
            engine.down(wipe=False)
        else:
            system.stop()
