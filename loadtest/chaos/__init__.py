"""`./postjournal chaos`: a system of its own under load, with faults by a seeded schedule."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from loadtest.chaos import report as reports
from loadtest.chaos.live_view import LiveView
from loadtest.chaos.load import ChaosLoad
from loadtest.chaos.report import ChaosReport
from loadtest.chaos.timeline import timeline_of
from loadtest.chaos.verdict import judge
from loadtest.faults.proxied_system import proxied_system
from loadtest.faults.schedule import ScheduledFault, draw
from loadtest.faults.schedule_runner import ScheduleRunner
from loadtest.machine import Machine, this_machine
from loadtest.options import exit_with, json_option, number_option, seed_option
from loadtest.progress import print_line
from loadtest.system import BenchSystem, wait_until_settled
from loadtest.workload.load import opened
from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.layout import DEFAULT_DIRECTORY
from postjournal.cli.options import Range

__all__ = ["chaos"]


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options that decide what a run does."""

    minutes: float
    seed: int
    rate: float
    replicas: int
    shards: int
    engine: Path | None
    keep: bool

    @property
    def command(self) -> str:
        """The command line that does the same again."""
        command = f"./postjournal chaos --minutes {self.minutes:g} --seed {self.seed}"
        command += f" --rate {self.rate:g} --replicas {self.replicas} --shards {self.shards}"
        return command + (f" --engine {shlex.quote(str(self.engine))}" if self.engine else "")

    def schedule(self, replicas: list[str]) -> list[ScheduledFault]:
        return draw(self.seed, self.minutes * 60, replicas, self.shards)


def _with_the_package(_: click.Context, __: click.Parameter, engine: Path | None) -> Path | None:
    """Reject other directories: the services would run the unchanged engine without an error."""
    if engine is not None and not (engine / "postjournal" / "core").is_dir():
        raise click.BadParameter(f"{engine} is not a copy of `shared`: it has no postjournal/core")
    return engine


@click.command()
@number_option("--minutes", Range(0.4, 10_000), 3)
@seed_option
@number_option(
    "--rate",
    Range(1, 5_000),
    200,
    "Commands per second directly into Kafka; the gateway gets 20 more.",
)
@number_option("--replicas", click.IntRange(2, 20), 3)
@number_option("--shards", click.IntRange(1, 16), 2)
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
def chaos(*, only_schedule: bool, output: Path | None, as_json: bool, **options: Any) -> None:
    """Inject every fault into a running system, and prove that nothing was lost or done twice.

    Starts Kafka, Redis and all services in a temporary directory, each replica behind a TCP proxy
    of its own. The same seed gives the same schedule: SIGKILL and SIGSTOP to replicas and to the
    engine of one shard, crashes of engines, handovers, connections reset, held and delayed,
    restarts of the broker, Redis, the gateway and the coordinator killed, no space for snapshots;
    under load from the gateway and directly into Kafka, with repeats. Then everything is audited:
    the results against what was sent, journal and snapshots by `./postjournal verify`, the
    replicas' memory, the projection in Redis.

    Exit code 1: something was lost, doubled, missing or wrong.
    """
    run = RunOptions(**options)
    if only_schedule:
        _print_schedule(run, as_json=as_json)
        return
    directory = output or _default_directory(run.seed)
    _create(directory)
    report = _run(run)
    reports.write(report, directory)
    if as_json:
        click.echo((directory / reports.JSON).read_text())
    else:
        console = Console(highlight=False)
        for line in [*reports.summary(report), f"report: {directory / reports.MARKDOWN}"]:
            console.print(line, soft_wrap=True)
    exit_with(report.verdict.faults)


def _print_schedule(run: RunOptions, *, as_json: bool) -> None:
    schedule = run.schedule([f"replica-{n + 1}" for n in range(run.replicas)])
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(schedule)))
        return
    for fault in schedule:
        click.echo(f"{fault.at_s:7.2f} s  {fault.description}")


def _run(run: RunOptions) -> ChaosReport:
    machine = this_machine()
    with proxied_system(run.replicas, run.shards, run.engine) as system:
        system.keep = True  # the data of a run that fails with an exception is worth examining
        try:
            for shard in range(run.shards):
                wait_until_settled(system, shard)
            with opened(ChaosLoad(system, run.seed)) as load:
                report = _inject_faults(run, system, load, machine)
        except KeyboardInterrupt:
            system.keep = run.keep
            raise
        system.keep = run.keep or not report.verdict.sound
        kept = str(system.local.layout.directory) if system.keep else None
    return msgspec.structs.replace(report, kept=kept)


def _inject_faults(
    run: RunOptions, system: BenchSystem, load: ChaosLoad, machine: Machine
) -> ChaosReport:
    seconds, names = run.minutes * 60, system.plan.replica_names
    runner = ScheduleRunner(system, run.schedule(names))
    started_ms = time.time_ns() // 1_000_000
    print_line(f"chaos for {run.minutes:g} min with seed {run.seed}")
    runner.start()
    load.start(run.rate)
    try:
        LiveView(load, runner, seconds).run()
    finally:
        runner.finish()
    load.stop()
    injected = sorted(runner.injected, key=lambda fault: fault.at_s)
    return ChaosReport(
        command=run.command,
        machine=machine,
        seed=run.seed,
        minutes=run.minutes,
        rate=run.rate,
        replicas=names,
        shards=run.shards,
        engine=str(run.engine) if run.engine else None,
        kept=None,
        takeovers=len(load.failovers),
        causes=dict(Counter(failover.cause for failover in load.failovers)),
        injected=injected,
        timeline=timeline_of(load, injected, started_ms, seconds),
        verdict=judge(system, load),
    )


def _create(directory: Path) -> None:
    """Create the report's directory before the run, so that a failure does not waste the run."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OperationFailed(f"no report can be written: {error}; use --output") from error


def _default_directory(seed: int) -> Path:
    return DEFAULT_DIRECTORY / "chaos" / f"seed-{seed}-{time.strftime('%Y%m%d-%H%M%S')}"
