"""`bench reads`: account queries answered by standbys while the leader is loaded."""

from __future__ import annotations

import time
from pathlib import Path

import click
import msgspec
from rich.console import RenderableType

from loadtest.bench.cpu import CpuMeter, Usage, usage
from loadtest.bench.options import report_options, seed_option, system_options
from loadtest.bench.report import (
    Machine,
    conclude,
    distribution_tables,
    findings_faults,
    findings_line,
    publish,
    this_machine,
)
from loadtest.bench.warm_up import warm_up_broker
from loadtest.bench_system import (
    Stage,
    stage_for,
    wait_until_settled,
)
from loadtest.progress import (
    show,
    step,
)
from loadtest.stats import (
    Distribution,
    distribution,
)
from loadtest.workload.audit import Findings
from loadtest.workload.load import Load, load_on
from loadtest.workload.reading import Answer, Asker, History, Witness
from postjournal.cli.options import Range

LOOK_S = 0.25


class Reads(msgspec.Struct, frozen=True, kw_only=True):
    """What the standbys answered.

    `per_second`: all connections together; `latency`: ms, from the request to the whole answer;
    `ahead`: how many commands further than asked for the answer was. `refused`: no standby state
    in time; `stale`: an answer from before `min_seq`; `wrong`: another balance than the results
    tell for its sequence.
    """

    standbys: list[str]
    connections: int
    tries: int
    per_second: float
    latency: Distribution
    ahead: Distribution
    refused: int
    stale: int
    wrong: int
    faults: list[str]


class ReadsReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the JSON file holds. `rate`: commands per second meanwhile; `write`: their ms from
    sending to the result's being seen."""

    bench: str
    machine: Machine
    replicas: int
    rate: float
    reads: Reads
    write: Distribution
    cpu: Usage
    audit: Findings


@click.command("reads")
@click.option(
    "--tries", type=click.IntRange(1, 10_000_000), default=100_000, show_default=True, help="Reads."
)
@click.option(
    "--connections",
    type=click.IntRange(1, 64),
    default=8,
    show_default=True,
    help="Each to one standby in turn; a connection asks again when it has its answer.",
)
@click.option(
    "--rate",
    type=Range(1, 20_000),
    default=500,
    show_default=True,
    help="Commands per second that the leader decides meanwhile.",
)
@seed_option
@system_options
@report_options
def bench_reads(
    *,
    tries: int,
    connections: int,
    rate: float,
    seed: int,
    replicas: int,
    attach: bool,
    as_json: bool,
    output: Path | None,
) -> None:
    """Read from the standbys what somebody has just seen, and check every answer.

    Each read asks for an account that has just changed, with `min_seq` set to the last sequence
    that was seen in the results topic a moment before: the answer must account for it, and its
    balance must be the one that the results tell for the answer's own sequence.
    """
    machine = this_machine()
    with stage_for(attach=attach, replicas=replicas) as stage:
        rows = wait_until_settled(stage)
        shares = shares_of(tries, connections)
        standbys = [row.http for row in rows if row.state == "standby"]
        warm_up_broker(stage)
        with load_on(stage, seed) as load:
            reads, write, cpu = _measure(stage, load, standbys, shares, rate)
            findings = load.findings()
        report = ReadsReport(
            bench="reads",
            machine=machine,
            replicas=stage.plan.replicas,
            rate=rate,
            reads=reads,
            write=write,
            cpu=cpu,
            audit=findings,
        )
    publish("reads", report, _tables(report), as_json=as_json, output=output)
    conclude(faults(reads) + findings_faults(findings))


def _measure(
    stage: Stage, load: Load, standbys: list[str], shares: list[int], rate: float
) -> tuple[Reads, Distribution, Usage]:
    witness, tries = Witness(stage), sum(shares)
    askers = [
        Asker(standbys[number % len(standbys)], witness, share)
        for number, share in enumerate(shares)
    ]
    first = len(load.book)
    with step(f"{tries:,} reads from {len(standbys)} standbys, {rate:g} commands/s meanwhile"):
        load.start(rate)
        meter = CpuMeter(stage.system.status())
        before, begun_s = meter.read(), time.monotonic()
        for asker in askers:
            asker.start()
        while any(asker.is_alive() for asker in askers):
            time.sleep(LOOK_S)
            load.catch_up()
            show(f"{sum(len(asker.answers) for asker in askers):,} of {tries:,} reads")
        seconds = time.monotonic() - begun_s
        cpu = usage(before, meter.read())
        load.stop()
        witness.latest()  # takes in what came since
        witness.close()
    latencies = load.latency_ms(range(first, len(load.book)))
    reads = judge(standbys, askers, witness.history, seconds)
    return reads, distribution([*latencies.values()]), cpu


def shares_of(tries: int, connections: int) -> list[int]:
    """How often each connection asks."""
    each, rest = divmod(tries, connections)
    return [each + (number < rest) for number in range(connections)]


def judge(standbys: list[str], askers: list[Asker], history: History, seconds: float) -> Reads:
    """All answers against what the results say."""
    answers = [answer for asker in askers for answer in asker.answers]
    told = [answer for answer in answers if answer.error is None]
    return Reads(
        standbys=standbys,
        connections=len(askers),
        tries=len(answers),
        per_second=round(len(answers) / seconds, 1),
        latency=distribution([answer.took_ns / 1e6 for answer in answers]),
        ahead=distribution([float(answer.seq - answer.min_seq) for answer in told]),
        refused=len(answers) - len(told),
        stale=sum(map(is_stale, told)),
        wrong=sum(not history.is_right(answer) for answer in told),
        faults=[asker.fault for asker in askers if asker.fault is not None],
    )


def is_stale(answer: Answer) -> bool:
    """It does not account for what the reader had seen."""
    return answer.seq < answer.min_seq


def faults(reads: Reads) -> list[str]:
    """What to tell when an answer was not as it had to be."""
    found = [f"a connection failed: {fault}" for fault in reads.faults]
    for count, what in (
        (reads.refused, "refused"),
        (reads.stale, "older than min_seq"),
        (reads.wrong, "another balance than the results tell"),
    ):
        if count:
            found.append(f"{count} of {reads.tries} answers: {what}")
    return found


def _tables(report: ReadsReport) -> list[RenderableType]:
    reads = report.reads
    cores = ", ".join(f"{name} {used:.2f}" for name, used in report.cpu.processes.items())
    title = (
        f"{reads.per_second:,.0f} reads/s from {len(reads.standbys)} standbys over "
        f"{reads.connections} connections; {report.rate:g} commands/s; cores used: {cores}"
    )
    rows = {"read": reads.latency, "command, source to result, meanwhile": report.write}
    tables = distribution_tables(title, "ms", rows)
    tables += distribution_tables("", "commands", {"further than asked for": reads.ahead})
    good = "[green]✔[/]" if not faults(reads) else "[red]✘[/]"
    tables.append(
        f"{good} min_seq honoured in {reads.tries - reads.refused - reads.stale:,} of "
        f"{reads.tries:,} tries; {reads.refused} refused, {reads.stale} stale, {reads.wrong} wrong"
    )
    return [*tables, findings_line(report.audit)]
