"""`./postjournal chaos`: a system of its own under load, harmed by a seeded schedule, audited."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from pathlib import Path

import click
import msgspec
from rich.console import Console

from loadtest.bench.options import json_option, seed_option
from loadtest.bench.report import Machine, conclude, this_machine
from loadtest.bench_system import (
    Stage,
    wait_until_settled,
)
from loadtest.chaos import report as reports
from loadtest.chaos.load import ChaosLoad
from loadtest.chaos.report import ChaosReport
from loadtest.chaos.show import Watch
from loadtest.chaos.timeline import draw_up
from loadtest.chaos.verdict import judge
from loadtest.faults.schedule import (
    Strike,
    draw,
)
from loadtest.faults.striker import Striker
from loadtest.faults.system import chaos_stage
from loadtest.progress import say
from loadtest.workload.load import at_work
from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.layout import DEFAULT_DIRECTORY
from postjournal.cli.options import Range

__all__ = ["chaos"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for."""

    minutes: float
    seed: int
    rate: float
    replicas: int
    shards: int
    engine: Path | None
    keep: bool

    @property
    def command(self) -> str:
        """What does the same again."""
        told = f"./postjournal chaos --minutes {self.minutes:g} --seed {self.seed}"
        told += f" --rate {self.rate:g} --replicas {self.replicas} --shards {self.shards}"
        return told + (f" --engine {shlex.quote(str(self.engine))}" if self.engine else "")


def _with_the_package(_: click.Context, __: click.Parameter, engine: Path | None) -> Path | None:
    """Without it the services would run the unchanged engine, and nothing would tell."""
    if engine is not None and not (engine / "postjournal" / "core").is_dir():
        raise click.BadParameter(f"{engine} is no copy of `shared`: it has no postjournal/core")
    return engine


@click.command()
@click.option("--minutes", type=Range(0.4, 10_000), default=3, show_default=True)
@seed_option
@click.option(
    "--rate",
    type=Range(1, 5_000),
    default=200,
    show_default=True,
    help="Commands per second straight into Kafka; the gateway gets 20 more.",
)
@click.option("--replicas", type=click.IntRange(2, 20), default=3, show_default=True)
@click.option("--shards", type=click.IntRange(1, 16), default=1, show_default=True)
@click.option(
    "--engine",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    callback=_with_the_package,
    help="A changed copy of `shared` for the services, to see that the audit finds the change.",
)
@click.option("--keep", is_flag=True, help="Keep the data, as is always done after a failure.")
@click.option("--schedule", "only_schedule", is_flag=True, help="Print the schedule, do nothing.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to write the report.  [default: .postjournal/chaos/seed-SEED-TIME]",
)
@json_option
def chaos(
    *,
    minutes: float,
    seed: int,
    rate: float,
    replicas: int,
    shards: int,
    engine: Path | None,
    keep: bool,
    only_schedule: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Break a running system in every way, and prove that nothing was lost or done twice.

    Starts Kafka, Redis and all services in a temporary directory, each replica behind a TCP proxy
    of its own. The same seed gives the same schedule: SIGKILL, SIGSTOP, handovers, connections
    cut, stopped and slowed down, restarts of the broker, Redis, the gateway and the coordinator
    gone, no room for snapshots; under load from the gateway and straight into Kafka, with repeats.
    Then everything is audited: the results against what was sent, journal and snapshots by
    `./postjournal verify`, the replicas' memory, the projection in Redis.

    Exit code 1: something was lost, doubled, missing or wrong.
    """
    plan = Plan(
        minutes=minutes,
        seed=seed,
        rate=rate,
        replicas=replicas,
        shards=shards,
        engine=engine,
        keep=keep,
    )
    if only_schedule:
        _print_schedule(plan, as_json=as_json)
        return
    directory = output or _default_directory(seed)
    _prepare(directory)
    report = _run(plan)
    reports.write(report, directory)
    if as_json:
        click.echo((directory / reports.JSON).read_text())
    else:
        console = Console(highlight=False)
        for line in [*reports.summary(report), f"report: {directory / reports.MARKDOWN}"]:
            console.print(line, soft_wrap=True)
    conclude(report.verdict.faults)


def _schedule(plan: Plan, replicas: list[str]) -> list[Strike]:
    return draw(plan.seed, plan.minutes * 60, replicas, plan.shards)


def _print_schedule(plan: Plan, *, as_json: bool) -> None:
    strikes = _schedule(plan, [f"replica-{n + 1}" for n in range(plan.replicas)])
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(strikes)))
        return
    for strike in strikes:
        click.echo(f"{strike.at_s:7.2f} s  {strike.told()}")


def _run(plan: Plan) -> ChaosReport:
    machine = this_machine()
    with chaos_stage(plan.replicas, plan.shards, plan.engine) as stage:
        stage.keep = True  # whatever goes wrong in here is worth a look
        try:
            report = _harm(plan, stage, machine)
        except KeyboardInterrupt:
            stage.keep = plan.keep
            raise
        stage.keep = plan.keep or not report.verdict.sound
        kept = str(stage.local.layout.directory) if stage.keep else None
    return msgspec.structs.replace(report, kept=kept)


def _harm(plan: Plan, stage: Stage, machine: Machine) -> ChaosReport:
    for shard in range(plan.shards):
        wait_until_settled(stage, shard)
    with at_work(ChaosLoad(stage, plan.seed)) as load:
        return _harm_at_work(plan, stage, load, machine)


def _harm_at_work(plan: Plan, stage: Stage, load: ChaosLoad, machine: Machine) -> ChaosReport:
    seconds, names = plan.minutes * 60, stage.plan.replica_names
    striker = Striker(stage, _schedule(plan, names), seconds)
    begun_ms = time.time_ns() // 1_000_000
    say(f"chaos for {plan.minutes:g} min with seed {plan.seed}")
    striker.start()
    load.start(plan.rate)
    try:
        Watch(load, striker, seconds).until(seconds)
    finally:
        striker.finish()
    load.stop()
    blows = sorted(striker.blows, key=lambda blow: blow.at_s)
    return ChaosReport(
        command=plan.command,
        machine=machine,
        seed=plan.seed,
        minutes=plan.minutes,
        rate=plan.rate,
        replicas=names,
        shards=plan.shards,
        engine=str(plan.engine) if plan.engine else None,
        kept=None,
        takeovers=len(load.failovers),
        causes=dict(Counter(failover.cause for failover in load.failovers)),
        blows=blows,
        timeline=draw_up(load, blows, begun_ms, seconds),
        verdict=judge(stage, load),
    )


def _prepare(directory: Path) -> None:
    """Rather now than when there is a report that cannot be written."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OperationFailed(f"no report can be written: {error}; use --output") from error


def _default_directory(seed: int) -> Path:
    return DEFAULT_DIRECTORY / "chaos" / f"seed-{seed}-{time.strftime('%Y%m%d-%H%M%S')}"
