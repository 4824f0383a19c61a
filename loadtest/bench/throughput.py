"""`bench throughput`: preloaded transfers through one shard, a standby following."""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec
from rich.console import RenderableType
from rich.table import Table

from loadtest.bench.cpu import CpuMeter, Reading, Usage, micros_per_command, usage
from loadtest.bench.engine_stages import StageCost, measure_stages
from loadtest.bench.frame import AuditedReport, BenchRun, bench_frame
from loadtest.bench.tables import plain_table
from loadtest.bench.throughput_results import LagSample, Rates, read_results, standby_lag
from loadtest.bench.warm_up import warm_up_broker
from loadtest.options import accounts_option, number_option
from loadtest.progress import step
from loadtest.system import BenchSystem, wait_until_settled
from loadtest.workload.preload import count_results, preload_feed

SHARD = 0
STAGE_COMMANDS = 200_000
"""Enough for the costs of the in-process stages to be steady."""


class ThroughputReport(AuditedReport, frozen=True, kw_only=True, tag="throughput"):
    """`cpu`: CPU microseconds per command at full speed, `cores`: CPU seconds per second;
    `stages`: measured afterwards, in the bench's process."""

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

    def tables(self) -> Sequence[RenderableType]:
        rates = self.rates
        return [
            f"[bold]{rates.whole:,.0f} commands/s[/] over the whole run of {self.commands:,} "
            f"({rates.seconds:.2f} s from the first to the last result); "
            f"steady part {rates.steady:,.0f}/s",
            f"standby behind by at most {self.standby_lag_max_s:.2f} s "
            f"({len(self.standby_lag)} samples); "
            f"{'same' if self.same_digest else '[red]different[/]'} digest on all replicas",
            _cpu_table(self.cpu, self.cores),
            *(_stage_tables(self.stages) if self.stages else []),
        ]

    def failures(self) -> list[str]:
        return super().failures() + ["the replicas' digests differ"] * (not self.same_digest)


class Sample(msgspec.Struct, frozen=True):
    """`results`: how many the results topic holds."""

    results: int
    reading: Reading


@click.command("throughput")
@number_option("--commands", click.IntRange(1_000, 50_000_000), 1_500_000)
@accounts_option
@number_option("--standbys", click.IntRange(0, 9), 1)
@click.option("--stages/--no-stages", default=True, help="Measure the leader's stages afterwards.")
@bench_frame(attachable=False)
def bench_throughput(
    run: BenchRun, *, commands: int, accounts: int, standbys: int, stages: bool
) -> ThroughputReport:
    """Measure how many commands per second one shard takes.

    Always on a system of its own: all commands are in the feed topic before the replicas start.
    The rate is taken from Kafka's timestamps in the results topic; during the run only that
    topic's end offset is requested, four times a second.
    """
    transfers = run.transfers(accounts, commands)
    system = run.start_storage(1 + standbys)
    warm_up_broker(system)
    preload_feed(system, {SHARD: transfers})
    with step("running"):
        system.launch_replicas()
        cpu, cores = _cpu(_sample(system, len(transfers)))
    rows = wait_until_settled(system, SHARD, same_seq=True)
    with step(f"verifying {len(transfers):,} results"):
        results = read_results(system, transfers)
        lag = standby_lag(system, results.stamps_ms)
    with step("measuring the leader's stages in this process"):
        costs = measure_stages(system, transfers, STAGE_COMMANDS) if stages else []
    return ThroughputReport(
        machine=run.machine,
        audit=results.findings,
        commands=commands,
        accounts=accounts,
        standbys=standbys,
        rates=results.rates,
        standby_lag=lag,
        standby_lag_max_s=max((sample.lag_s for sample in lag), default=0.0),
        cpu=cpu,
        cores=cores,
        stages=costs,
        same_digest=len({row.digest for row in rows}) == 1,
    )


def _sample(system: BenchSystem, end: int) -> list[Sample]:
    samples: list[Sample] = []
    meter: CpuMeter | None = None
    for by_shard in count_results(system, {SHARD: end}):
        results = by_shard[SHARD]
        if results and meter is None:
            status = system.status()  # the meter lists the leader separately, so wait for one
            meter = CpuMeter(status, SHARD) if status.leader(SHARD) else None
        if meter is not None:
            samples.append(Sample(results, meter.read()))
    return samples


def _cpu(samples: list[Sample]) -> tuple[Usage, Usage]:
    """Microseconds per command, and cores, from the first sample to the last before the end."""
    busy = [sample for sample in samples if sample.results < samples[-1].results]
    if len(busy) < 2:
        return Usage({}, {}), Usage({}, {})  # the run was too short
    first, last = busy[0], busy[-1]
    done = last.results - first.results
    micros = micros_per_command(first.reading, last.reading, done)
    return micros, usage(first.reading, last.reading)


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
