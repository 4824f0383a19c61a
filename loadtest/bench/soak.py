"""`bench soak`: a steady load for minutes, and a fault in a replica every few seconds."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence

import click
import msgspec
from rich.console import RenderableType

from loadtest.bench.frame import BenchRun, CheckedReport, bench_frame
from loadtest.bench.tables import distribution_tables
from loadtest.faults.injector import FaultInjector
from loadtest.faults.kinds import Fault
from loadtest.options import number_option
from loadtest.progress import print_line, show_status, step
from loadtest.stats import Distribution, distribution, longest_gap_ms
from loadtest.system import BenchSystem
from loadtest.workload.load import Load
from postjournal.cli.local.status import ReplicaRow
from postjournal.cli.options import Range

LEDGERS = 5
ALIVE = ("leader", "standby", "claiming", "resigning", "restoring", "catching_up", "rebuilding")
MAX_PAUSE_S = 3.0


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One injected fault. `at_s`: since the load began; `unavailable_ms`: by shard, the longest
    silence between two results from then until the next fault."""

    at_s: float
    how: Fault
    pause_s: float
    replica: str
    leads: bool
    unavailable_ms: list[float]

    def summary(self) -> str:
        what = f"paused for {self.pause_s:g} s" if self.how is Fault.PAUSE else "killed"
        role = "leader" if self.leads else "standby"
        gaps = ", ".join(f"{gap:.0f}" for gap in self.unavailable_ms)
        return f"{self.at_s:7.1f} s  {self.replica} ({role}) {what}: {gaps} ms without results"


class SoakReport(CheckedReport, frozen=True, kw_only=True, tag="soak"):
    """`leader_faults`, `standby_faults`: unavailability after them, in ms; None: there was none."""

    seed: int
    minutes: float
    rate: float
    every: float
    replicas: int
    shards: int
    events: list[Event]
    takeovers: int
    leader_faults: Distribution | None
    standby_faults: Distribution | None

    def tables(self) -> Sequence[RenderableType]:
        rows = {
            "after a fault in a leader": self.leader_faults,
            "after a fault in a standby": self.standby_faults,
        }
        title = (
            f"Longest silence after each of {len(self.events)} faults in {self.minutes:g} min at "
            f"{self.rate:g} commands/s; {self.takeovers} takeovers"
        )
        known = {name: row for name, row in rows.items() if row is not None}
        return distribution_tables(title, "ms", known)


@click.command("soak")
@number_option("--minutes", Range(0.1, 10_000), 10)
@number_option(
    "--rate",
    Range(1, 5_000),
    500,
    "Commands per second, of all types, valid and invalid, from several ledgers.",
)
@number_option(
    "--every",
    Range(5, 600),
    10,
    "Seconds from one SIGKILL or pause (of 1-3 s) of a random replica to the next.",
)
@number_option("--shards", click.IntRange(1, 16), 1, "Shards of the bench's own system.")
@bench_frame(attachable=True)
def bench_soak(
    run: BenchRun, *, minutes: float, rate: float, every: float, shards: int
) -> SoakReport:
    """Run for minutes under load while replicas are killed and paused, then audit everything.

    Audited: every command has exactly one outcome, and the one that the ledger's rules give; the
    balances add up to the accepted deposits less withdrawals; all replicas end with the same
    digest, and hold in memory the balances of the results.
    """
    if not fault_numbers(minutes, every):
        enough = math.ceil(every * 10 / 3) / 100
        raise click.UsageError(
            f"{minutes:g} minutes are too short for a fault at {every:g} s and the same time after "
            f"it: --minutes {enough:g} is enough, or make --every smaller"
        )
    system = run.start(shards)
    load = run.open_load(system, LEDGERS)
    load.start(rate)
    events = _Soak(system, load, random.Random(run.seed)).run(minutes, every)
    load.stop()
    return SoakReport(
        machine=run.machine,
        audit=load.findings(),
        check=run.check(system, load),
        seed=run.seed,
        minutes=minutes,
        rate=rate,
        every=every,
        replicas=system.plan.replicas,
        shards=system.plan.shards,
        events=events,
        takeovers=len(load.failovers),
        leader_faults=_unavailability(events, leads=True),
        standby_faults=_unavailability(events, leads=False),
    )


def fault_numbers(minutes: float, every: float) -> range:
    """The numbers of the faults: fault k is at k times `every` seconds, and watched for as long."""
    events = minutes * 60 / every
    return range(1, int(events + 1e-9))  # 0.18 minutes are twice 5.4 s: 1.9999…


class _Soak:
    def __init__(self, system: BenchSystem, load: Load, rng: random.Random) -> None:
        self._system, self._load, self._random = system, load, rng
        self._injector = FaultInjector(system)
        self._start_ns = time.monotonic_ns()

    def run(self, minutes: float, every: float) -> list[Event]:
        events: list[Event] = []
        with step(f"{minutes:g} minutes, a fault every {every:g} s"):
            for number in fault_numbers(minutes, every):
                self._wait_until(number * every)
                events.append(self._event((number + 1) * every))
                print_line(events[-1].summary())
            self._wait_until(minutes * 60)
        return events

    def _wait_until(self, at_s: float) -> None:
        self._load.poll()
        decided = self._load.auditor.decided
        show_status(f"{self._elapsed_s():.0f} s, {decided:,} results, next fault at {at_s:.0f} s")
        time.sleep(max(at_s - self._elapsed_s(), 0))

    def _elapsed_s(self) -> float:
        return (time.monotonic_ns() - self._start_ns) / 1e9

    def _event(self, end_s: float) -> Event:
        """Inject a fault in a random running replica; watch until just before the next fault."""
        target = self._random.choice(self._running())
        fault = self._random.choice((Fault.KILL, Fault.PAUSE))
        is_pause = fault is Fault.PAUSE
        pause_s = round(self._random.uniform(1, MAX_PAUSE_S), 2) if is_pause else 0.0
        at_ns, _ = self._injector.inject(fault, target.name, lasts_s=pause_s)
        self._wait_until(end_s - 0.5)
        self._load.poll()
        end_ns = time.monotonic_ns()
        return Event(
            at_s=round((at_ns - self._start_ns) / 1e9, 2),
            how=fault,
            pause_s=pause_s,
            replica=target.name,
            leads=target.state == "leader",
            unavailable_ms=[
                longest_gap_ms(seen_ns, at_ns, end_ns) for seen_ns in self._load.seen_ns
            ],
        )

    def _running(self) -> list[ReplicaRow]:
        """One row for each running replica, of a shard that it leads if there is one."""
        found: dict[str, ReplicaRow] = {}
        for row in self._system.status().replicas:
            if row.state in ALIVE and (row.name not in found or row.state == "leader"):
                found[row.name] = row
        return list(found.values())


def _unavailability(events: list[Event], *, leads: bool) -> Distribution | None:
    gaps = [max(event.unavailable_ms) for event in events if event.leads is leads]
    return distribution(gaps) if gaps else None
