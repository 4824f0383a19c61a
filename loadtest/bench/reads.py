"""`bench reads`: account queries answered by standbys while the leader is loaded."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click
import msgspec
from rich.console import RenderableType

from loadtest.bench.cpu import CpuMeter, Usage, usage
from loadtest.bench.frame import AuditedReport, BenchRun, bench_frame
from loadtest.bench.tables import cores_text, distribution_tables
from loadtest.options import number_option
from loadtest.progress import check_mark, show_status, step
from loadtest.stats import Distribution, distribution
from loadtest.system import BenchSystem
from loadtest.workload.load import Load
from loadtest.workload.query_connection import BalanceAnswer
from loadtest.workload.standby_reads import BalanceHistory, ResultsObserver, StandbyReader
from postjournal.cli.options import Range

POLL_S = 0.25


class Reads(msgspec.Struct, frozen=True, kw_only=True):
    """The standbys' answers.

    `per_second`: all connections together; `latency`: ms, from the request to the whole answer;
    `ahead`: by how many commands the answer was ahead of `min_seq`. `refused`: the standby did
    not reach `min_seq` in time; `stale`: an answer from before `min_seq`; `wrong`: another
    balance than in the results for its sequence; `faults`: why connections failed.
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

    def failures(self) -> list[str]:
        found = [f"a connection failed: {error}" for error in self.faults]
        for count, what in (
            (self.refused, "refused"),
            (self.stale, "older than min_seq"),
            (self.wrong, "another balance than in the results"),
        ):
            if count:
                found.append(f"{count} of {self.tries} answers: {what}")
        return found


class ReadsReport(AuditedReport, frozen=True, kw_only=True, tag="reads"):
    """`rate`: commands per second during the reads; `write`: their ms from sending until the
    result is seen."""

    replicas: int
    rate: float
    reads: Reads
    write: Distribution
    cpu: Usage

    def tables(self) -> Sequence[RenderableType]:
        reads = self.reads
        title = (
            f"{reads.per_second:,.0f} reads/s from {len(reads.standbys)} standbys over "
            f"{reads.connections} connections; {self.rate:g} commands/s; {cores_text(self.cpu)}"
        )
        rows = {"read": reads.latency, "command, source to result, meanwhile": self.write}
        tables = distribution_tables(title, "ms", rows)
        return tables + distribution_tables("", "commands", {"ahead of min_seq": reads.ahead})

    def verdict(self) -> list[str]:
        reads = self.reads
        line = (
            f"{check_mark(not reads.failures())} min_seq honored in "
            f"{reads.tries - reads.refused - reads.stale:,} of {reads.tries:,} tries; "
            f"{reads.refused} refused, {reads.stale} stale, {reads.wrong} wrong"
        )
        return [line, *super().verdict()]

    def failures(self) -> list[str]:
        return self.reads.failures() + super().failures()


@click.command("reads")
@number_option("--tries", click.IntRange(1, 10_000_000), 100_000, "Reads.")
@number_option(
    "--connections",
    click.IntRange(1, 64),
    8,
    "Distributed over the standbys; each sends its next query when it has an answer.",
)
@number_option(
    "--rate", Range(1, 20_000), 500, "Commands per second that the leader decides meanwhile."
)
@bench_frame(attachable=True)
def bench_reads(run: BenchRun, *, tries: int, connections: int, rate: float) -> ReadsReport:
    """Read from the standbys what has just been published, and check every answer.

    Each read is of an account that has just changed, with `min_seq` set to the last sequence
    that was seen in the results topic a moment before: the answer must account for it, and its
    balance must be the one in the results for the answer's own sequence.
    """
    system = run.start()
    load = run.open_load(system)
    reads, write, cpu = _measure(system, load, shares_of(tries, connections), rate)
    return ReadsReport(
        machine=run.machine,
        audit=load.findings(),
        replicas=system.plan.replicas,
        rate=rate,
        reads=reads,
        write=write,
        cpu=cpu,
    )


def _measure(
    system: BenchSystem, load: Load, shares: list[int], rate: float
) -> tuple[Reads, Distribution, Usage]:
    standbys = [row.http for row in system.rows(0) if row.state == "standby"]
    observer, tries = ResultsObserver(system), sum(shares)
    readers = [
        StandbyReader(standbys[number % len(standbys)], observer, share)
        for number, share in enumerate(shares)
    ]
    first = len(load.sent)
    with step(f"{tries:,} reads from {len(standbys)} standbys, {rate:g} commands/s meanwhile"):
        load.start(rate)
        meter = CpuMeter(system.status())
        before, started_s = meter.read(), time.monotonic()
        for reader in readers:
            reader.start()
        while any(reader.is_alive() for reader in readers):
            time.sleep(POLL_S)
            load.poll()
            show_status(f"{sum(len(reader.answers) for reader in readers):,} of {tries:,} reads")
        seconds = time.monotonic() - started_s
        cpu = usage(before, meter.read())
        load.stop()
        observer.close()
    latencies = load.latency_ms(range(first, len(load.sent)))
    reads = judge(standbys, readers, observer.history, seconds)
    return reads, distribution([*latencies.values()]), cpu


def shares_of(tries: int, connections: int) -> list[int]:
    """How many queries each connection sends."""
    share, rest = divmod(tries, connections)
    return [share + (number < rest) for number in range(connections)]


def judge(
    standbys: list[str], readers: list[StandbyReader], history: BalanceHistory, seconds: float
) -> Reads:
    """Compare all answers with the results."""
    answers = [answer for reader in readers for answer in reader.answers]
    accepted = [answer for answer in answers if answer.error is None]
    return Reads(
        standbys=standbys,
        connections=len(readers),
        tries=len(answers),
        per_second=round(len(answers) / seconds, 1),
        latency=distribution([answer.took_ns / 1e6 for answer in answers]),
        ahead=distribution([float(answer.seq - answer.min_seq) for answer in accepted]),
        refused=len(answers) - len(accepted),
        stale=sum(map(_is_stale, accepted)),
        wrong=sum(not history.agrees_with(answer) for answer in accepted),
        faults=[reader.failure for reader in readers if reader.failure is not None],
    )


def _is_stale(answer: BalanceAnswer) -> bool:
    return answer.seq < answer.min_seq
