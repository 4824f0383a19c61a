"""`bench throughput`: preloaded transfers through one shard, a standby following."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import click
import msgspec
from rich.console import RenderableType
from rich.table import Table

from loadtest.bench.cpu import CpuMeter, Reading, Usage, micros_each, usage
from loadtest.bench.options import report_options, seed_option
from loadtest.bench.report import (
    Machine,
    conclude,
    findings_faults,
    findings_line,
    plain_table,
    publish,
    this_machine,
)
from loadtest.bench.stages import StageCost, measure_stages
from loadtest.bench.throughput_results import LagSample, Rates, read_results, standby_lag
from loadtest.bench.warm_up import warm_up_broker
from loadtest.bench_system import (
    Stage,
    own_stage,
    wait_until_settled,
)
from loadtest.progress import (
    show,
    step,
)
from loadtest.workload.audit import Findings
from loadtest.workload.preload import Transfers, preload_feed
from loadtest.workload.watcher import end_of
from postjournal.adapters.kafka.partition_reader import PartitionFinder
from postjournal.cli.errors import OperationFailed

POLL_S = 0.25
STALLED_S = 30.0
SHARD = 0
STAGE_COMMANDS = 200_000
"""Enough for the in-process stages to be steady."""


class ThroughputReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the JSON file holds.

    `cpu`: CPU microseconds per command while it ran at full speed, `cores`: CPU seconds per
    second; `stages`: measured
    afterwards, in this process.
    """

    bench: str
    machine: Machine
    commands: int
    accounts: int
    standbys: int
    rates: Rates
    standby_lag: list[LagSample]
    standby_lag_max_s: float
    cpu: Usage
    cores: Usage
    stages: list[StageCost]
    same_digest: bool
    audit: Findings


class Sample(msgspec.Struct, frozen=True):
    """`results`: how many the results topic holds."""

    results: int
    reading: Reading


@click.command("throughput")
@click.option("--commands", type=click.IntRange(1_000, 50_000_000), default=1_500_000)
@click.option("--accounts", type=click.IntRange(2, 1_000_000), default=1_000, show_default=True)
@click.option("--standbys", type=click.IntRange(0, 9), default=1, show_default=True)
@click.option("--stages/--no-stages", default=True, help="Measure the leader's stages afterwards.")
@seed_option
@report_options
def bench_throughput(
    *,
    commands: int,
    accounts: int,
    standbys: int,
    stages: bool,
    seed: int,
    as_json: bool,
    output: Path | None,
) -> None:
    """Measure how many commands per second one shard takes.

    Always on a system of its own: all commands (1,500,000 by default) lie in the feed topic
    before the replicas start. The rate is taken from Kafka's timestamps in the results topic;
    during the run only that topic's end is asked for, four times a second.
    """
    machine = this_machine()
    transfers = Transfers(uuid.uuid4().hex[:6], accounts, commands, seed)
    with own_stage(1 + standbys, launch=False) as stage:
        warm_up_broker(stage)
        preload_feed(stage, SHARD, transfers)
        samples = _run(stage, transfers)
        rows = wait_until_settled(stage, SHARD, same_seq=True)
        report = _report(stage, transfers, samples, machine, stages)
        same = len({row.digest for row in rows}) == 1
        report = msgspec.structs.replace(report, standbys=standbys, same_digest=same)
        stage.keep = not (report.audit.ok and same)
    publish("throughput", report, _tables(report), as_json=as_json, output=output)
    conclude(_faults(report))


def _run(stage: Stage, transfers: Transfers) -> list[Sample]:
    """Start the replicas; returns when all results are there."""
    with step("running"):
        stage.launch_replicas()
        finder = PartitionFinder(stage.kafka)
        try:
            return _sample(stage, finder, len(transfers))
        finally:
            finder.close()


def _sample(stage: Stage, finder: PartitionFinder, wanted: int) -> list[Sample]:
    topic = stage.topics.sink_topics["results"]
    samples: list[Sample] = []
    meter: CpuMeter | None = None
    results, moved_s = 0, time.monotonic()
    while results < wanted:
        time.sleep(POLL_S)
        end = end_of(finder, topic, SHARD)
        if end > results:
            results, moved_s = end, time.monotonic()
        elif time.monotonic() - moved_s > STALLED_S:
            raise OperationFailed(f"no result came for {STALLED_S:g} s, after {results:,}")
        if results and meter is None:
            meter = _meter(stage)
        if meter is not None:
            samples.append(Sample(results, meter.read()))
        show(f"{results:,} of {wanted:,} results")
    return samples


def _meter(stage: Stage) -> CpuMeter | None:
    """As soon as there is a leader: it is told apart."""
    status = stage.system.status()
    return CpuMeter(status, SHARD) if status.leader(SHARD) else None


def _report(
    stage: Stage, transfers: Transfers, samples: list[Sample], machine: Machine, stages: bool
) -> ThroughputReport:
    with step(f"verifying {len(transfers):,} results"):
        results = read_results(stage, transfers)
        lag = standby_lag(stage, results.stamps_ms)
    with step("measuring the leader's stages in this process"):
        costs = measure_stages(stage, transfers, STAGE_COMMANDS) if stages else []
    cpu, cores = _cpu(samples)
    return ThroughputReport(
        bench="throughput",
        machine=machine,
        commands=transfers.transfers,
        accounts=transfers.accounts,
        standbys=0,
        rates=results.rates,
        standby_lag=lag,
        standby_lag_max_s=max((sample.lag_s for sample in lag), default=0.0),
        cpu=cpu,
        cores=cores,
        stages=costs,
        same_digest=False,
        audit=results.findings,
    )


def _cpu(samples: list[Sample]) -> tuple[Usage, Usage]:
    """Microseconds per command, and cores, from the first sample to the last before the end."""
    busy = [sample for sample in samples if sample.results < samples[-1].results]
    if len(busy) < 2:
        return Usage({}, {}), Usage({}, {})  # the run was too short
    first, last = busy[0], busy[-1]
    done = last.results - first.results
    return micros_each(first.reading, last.reading, done), usage(first.reading, last.reading)


def _tables(report: ThroughputReport) -> list[RenderableType]:
    rates = report.rates
    return [
        f"[bold]{rates.whole:,.0f} commands/s[/] over the whole run of {report.commands:,} "
        f"({rates.seconds:.2f} s from the first to the last result); "
        f"steady part {rates.steady:,.0f}/s",
        f"standby behind by at most {report.standby_lag_max_s:.2f} s "
        f"({len(report.standby_lag)} samples); "
        f"{'same' if report.same_digest else '[red]different[/]'} digest on all replicas",
        _cpu_table(report.cpu, report.cores),
        *(_stage_tables(report.stages) if report.stages else []),
        findings_line(report.audit),
    ]


def _cpu_table(cpu: Usage, cores: Usage) -> Table:
    table = plain_table("CPU by process", "µs per command", "cores")
    for name, micros in cpu.processes.items():
        table.add_row(name, f"{micros:.2f}", f"{cores.processes[name]:.2f}")
        if name == "leader":
            for thread, part in cpu.threads.items():
                table.add_row(f"  {thread}", f"{part:.2f}", f"{cores.threads[thread]:.2f}")
    return table


def _stage_tables(stages: list[StageCost]) -> list[RenderableType]:
    table = plain_table("CPU of the engine's thread by stage", "µs per command")
    for stage in stages:
        table.add_row(stage.name, f"{stage.micros:.2f}")
    whole = sum(stage.micros for stage in stages if stage.name.startswith("leader"))
    table.add_row("leader: sum", f"{whole:.2f}")
    return [
        "[bold]In-process:[/] measured afterwards by calling the engine's own functions in this "
        "process, on the same records, with the replicas idle",
        table,
    ]


def _faults(report: ThroughputReport) -> list[str]:
    faults = findings_faults(report.audit)
    if not report.same_digest:
        faults.append("the replicas' digests differ")
    return faults
