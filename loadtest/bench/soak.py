"""`bench soak`: a steady load for minutes, and a replica harmed every few seconds."""

from __future__ import annotations

import math
import random
import time
from pathlib import Path

import click
import msgspec
from rich.console import RenderableType

from loadtest.bench.options import report_options, seed_option, system_options
from loadtest.bench.replicas_check import ReplicasCheck, check_faults, check_line, check_replicas
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
from loadtest.faults.harm import KILL, PAUSE, Harm
from loadtest.progress import (
    say,
    show,
    step,
)
from loadtest.stats import (
    Distribution,
    distribution,
    longest_gap,
)
from loadtest.workload.audit import Findings
from loadtest.workload.load import Load, load_on
from postjournal.cli.local.status import ReplicaRow
from postjournal.cli.options import Range

LEDGERS = 5
ALIVE = ("leader", "standby", "claiming", "resigning", "restoring", "catching_up", "rebuilding")
LONGEST_PAUSE_S = 3.0


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One harm done. `at_s`: since the load began; `unavailable_ms`: by shard, the longest
    silence between two results from then until the next event."""

    at_s: float
    how: str
    pause_s: float
    replica: str
    leads: bool
    unavailable_ms: list[float]


class SoakReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the JSON file holds. `leader_harmed`, `standby_harmed`: unavailability in ms."""

    bench: str
    machine: Machine
    seed: int
    minutes: float
    rate: float
    every: float
    replicas: int
    shards: int
    events: list[Event]
    takeovers: int
    leader_harmed: Distribution | None
    standby_harmed: Distribution | None
    audit: Findings
    check: ReplicasCheck


@click.command("soak")
@click.option("--minutes", type=Range(0.1, 10_000), default=10, show_default=True)
@click.option(
    "--rate",
    type=Range(1, 5_000),
    default=500,
    show_default=True,
    help="Commands per second, of all types, valid and invalid, from several ledgers.",
)
@click.option(
    "--every",
    type=Range(5, 600),
    default=10,
    show_default=True,
    help="Seconds from one SIGKILL or pause (of 1-3 s) of a random replica to the next.",
)
@click.option(
    "--shards",
    type=click.IntRange(1, 16),
    default=1,
    show_default=True,
    help="Of the bench's own system.",
)
@seed_option
@system_options
@report_options
def bench_soak(
    *,
    minutes: float,
    rate: float,
    every: float,
    shards: int,
    seed: int,
    replicas: int,
    attach: bool,
    as_json: bool,
    output: Path | None,
) -> None:
    """Run for minutes under load while replicas are killed and paused, then audit everything.

    Audited: every command has exactly one outcome, and the one that the ledger's rules give; the
    balances add up to the accepted deposits less withdrawals; all replicas end with the same
    digest, and hold in memory the balances that the results told.
    """
    if not _numbers(minutes, every):
        enough = math.ceil(every * 10 / 3) / 100
        raise click.UsageError(
            f"{minutes:g} minutes are too short to harm a replica at {every:g} s and watch it for "
            f"as long: --minutes {enough:g} is enough, or make --every smaller"
        )
    machine = this_machine()
    with stage_for(attach=attach, replicas=replicas, shards=shards) as stage:
        for shard in range(stage.plan.shards):
            wait_until_settled(stage, shard)
        warm_up_broker(stage)
        with load_on(stage, seed, LEDGERS) as load:
            load.start(rate)
            events = _Soak(stage, load, random.Random(seed)).run(minutes, every)
            load.stop()
            findings = load.findings()
            check = check_replicas(stage, load.balances_by_shard())
        stage.keep = not (findings.ok and check.ok)
        report = SoakReport(
            bench="soak",
            machine=machine,
            seed=seed,
            minutes=minutes,
            rate=rate,
            every=every,
            replicas=stage.plan.replicas,
            shards=stage.plan.shards,
            events=events,
            takeovers=len(load.failovers),
            leader_harmed=_unavailability(events, leads=True),
            standby_harmed=_unavailability(events, leads=False),
            audit=findings,
            check=check,
        )
    publish("soak", report, _tables(report), as_json=as_json, output=output)
    conclude(findings_faults(findings) + check_faults(check))


def _numbers(minutes: float, every: float) -> range:
    """Event k is at k times `every` seconds, and watched for as long."""
    events = minutes * 60 / every
    return range(1, int(events + 1e-9))  # 0.18 minutes are twice 5.4 s: 1.9999…


class _Soak:
    def __init__(self, stage: Stage, load: Load, rng: random.Random) -> None:
        self._stage, self._load, self._random = stage, load, rng
        self._harm = Harm(stage)
        self._start_ns = time.monotonic_ns()

    def run(self, minutes: float, every: float) -> list[Event]:
        events: list[Event] = []
        with step(f"{minutes:g} minutes, a replica harmed each {every:g} s"):
            for number in _numbers(minutes, every):
                self._wait_until(number * every)
                events.append(self._event((number + 1) * every))
                say(_told(events[-1]))
            self._wait_until(minutes * 60)
        return events

    def _wait_until(self, at_s: float) -> None:
        self._load.catch_up()
        decided = self._load.auditor.decided
        show(f"{self._elapsed_s():.0f} s, {decided:,} results, next event at {at_s:.0f} s")
        time.sleep(max(at_s - self._elapsed_s(), 0))

    def _elapsed_s(self) -> float:
        return (time.monotonic_ns() - self._start_ns) / 1e9

    def _event(self, until_s: float) -> Event:
        """Harm a random replica that runs; watch until just before the next event."""
        rows = self._running()
        target = self._random.choice(rows)
        how = self._random.choice((KILL, PAUSE))
        pause_s = round(self._random.uniform(1, LONGEST_PAUSE_S), 2) if how == PAUSE else 0.0
        at_ns, _ = self._harm.do(how, target, pause_s)
        self._wait_until(until_s - 0.5)
        self._load.catch_up()
        end_ns = time.monotonic_ns()
        gaps = [longest_gap(seen, at_ns, end_ns).length / 1e6 for seen in self._load.fresh_ns]
        return Event(
            at_s=round((at_ns - self._start_ns) / 1e9, 2),
            how=how,
            pause_s=pause_s,
            replica=target.name,
            leads=target.state == "leader",
            unavailable_ms=[round(gap, 1) for gap in gaps],
        )

    def _running(self) -> list[ReplicaRow]:
        """One row for each replica that runs; that of a shard which it leads, if it leads any."""
        found: dict[str, ReplicaRow] = {}
        for row in self._stage.system.status().replicas:
            if row.state in ALIVE and (row.name not in found or row.state == "leader"):
                found[row.name] = row
        return list(found.values())


def _told(event: Event) -> str:
    what = f"paused for {event.pause_s:g} s" if event.how == PAUSE else "killed"
    role = "leader" if event.leads else "standby"
    gaps = ", ".join(f"{gap:.0f}" for gap in event.unavailable_ms)
    return f"{event.at_s:7.1f} s  {event.replica} ({role}) {what}: {gaps} ms without results"


def _unavailability(events: list[Event], *, leads: bool) -> Distribution | None:
    gaps = [max(event.unavailable_ms) for event in events if event.leads is leads]
    return distribution(gaps) if gaps else None


def _tables(report: SoakReport) -> list[RenderableType]:
    rows = {
        "a leader was harmed": report.leader_harmed,
        "a standby was harmed": report.standby_harmed,
    }
    title = (
        f"Longest silence after each of {len(report.events)} events in {report.minutes:g} min at "
        f"{report.rate:g} commands/s; {report.takeovers} takeovers"
    )
    known = {name: row for name, row in rows.items() if row is not None}
    tables = distribution_tables(title, "ms", known)
    return [*tables, check_line(report.check), findings_line(report.audit)]
