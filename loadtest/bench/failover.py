"""`bench failover`: how long no results are published when the leader fails."""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections import Counter
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
from loadtest.stats import Distribution, distribution, longest_gap, longest_gap_ms
from loadtest.system import BenchSystem, leader_of, wait_until_settled
from loadtest.workload.load import Load
from postjournal.cli.options import Range
from postjournal.cluster.status import Failover
from postjournal.cluster.topics import DEFAULT_KEY, shard_of

QUIET_S = 1.0
"""No fault is injected for this long before each fault; it shows the usual gaps as well."""

WATCH_S = 2.0
"""For this long after a fault (after its end, if it lasts) silences are attributed to it."""

FAULTS = (
    *(Fault.KILL, Fault.PAUSE, Fault.HANDOVER, Fault.DISCONNECT),
    *(Fault.ENGINE_KILL, Fault.ENGINE_ABORT, Fault.ENGINE_PAUSE),
)

LEDGERS_PER_SHARD = 8
"""So that with several shards each of them gets commands."""


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One fault; durations in ms. `at`: ms since the Unix epoch.

    `at_ns`: by the monotonic clock.
    `unavailable_ms`: the longest silence between two results as they were seen; `by_kafka_ms`:
    the same by Kafka's timestamps; `usual_ms`: the longest silence in the second before.
    `takeovers`: as reported by the new leaders; there should be one.
    """

    number: int
    at: int
    at_ns: int
    previous: str
    leader: str
    unavailable_ms: float
    by_kafka_ms: float
    usual_ms: float
    takeovers: list[Failover]

    def summary(self) -> str:
        takeover = self.takeovers[0] if self.takeovers else None
        phases = (
            f"{takeover.cause}: detect {takeover.detect_ms:.0f}, claim {takeover.claim_ms:.0f}, "
            f"resume {takeover.resume_ms:.0f}"
            if takeover
            else "no takeover was reported"
        )
        return f"{self.previous} → {self.leader}  {self.unavailable_ms:7.1f} ms  ({phases})"


class OtherShards(msgspec.Struct, frozen=True, kw_only=True):
    """Latencies of the commands of the shards without a fault, in ms, as in `bench latency`.

    `before`: sent in the last `QUIET_S` seconds before a fault; `after`: in the `WATCH_S` seconds
    that follow it.
    """

    before: Distribution
    after: Distribution


class FailoverReport(CheckedReport, frozen=True, kw_only=True, tag="failover"):
    """Distributions in ms; `phases` as the new leaders measured them.

    Results are at best 1/rate apart, which is not subtracted. `others`: None with one shard.
    """

    how: Fault
    replicas: int
    shards: int
    rate: float
    rounds: list[Round]
    unavailable: Distribution
    by_kafka: Distribution
    usual: Distribution
    others: OtherShards | None
    phases: dict[str, Distribution]
    causes: dict[str, int]
    rounds_with_further_takeovers: int

    @property
    def file_prefix(self) -> str:
        return f"{super().file_prefix}-{self.how}"

    def tables(self) -> Sequence[RenderableType]:
        rows = {
            "unavailable, as seen outside": self.unavailable,
            "  by Kafka's timestamps": self.by_kafka,
            "longest silence just before": self.usual,
            **{f"new leader: {name}": phase for name, phase in self.phases.items()},
        }
        if self.others is not None:
            rows["other shards' latency before"] = self.others.before
            rows[f"  in the {WATCH_S:g} s after the fault"] = self.others.after
        title = (
            f"{len(self.rounds)} × {self.how} of the leader at {self.rate:g} commands/s "
            f"(results are {1000 / self.rate:g} ms apart at best), {self.replicas} replicas, "
            f"{self.shards} shard(s)"
        )
        causes = ", ".join(f"{cause} {count}" for cause, count in self.causes.items())
        further = self.rounds_with_further_takeovers
        line = f"causes: {causes or 'none reported'}; rounds with further takeovers: {further}"
        return [*distribution_tables(title, "ms", rows), line]


@click.command("failover")
@number_option("--kills", click.IntRange(1, 10_000), 30, "How many faults to inject.")
@click.option(
    "--how",
    type=click.Choice([fault.value for fault in FAULTS]),
    default=Fault.KILL.value,
    show_default=True,
    help="SIGKILL; SIGSTOP and after some time SIGCONT; a request to the leader to resign; or a "
    "container is disconnected from its networks for some time (with --attach to `up --docker`). "
    "engine-kill, engine-abort (SIGSEGV), engine-pause: of the engine of one shard alone.",
)
@number_option(
    "--rate", Range(1, 5_000), 200, "Commands per second of a shard; results are 1/rate apart."
)
@number_option("--pause", Range(0.1, 60), 3, "Seconds of each pause or disconnection.")
@number_option(
    "--shards", click.IntRange(1, 64), 1, "Of the system, unless attached. One of them fails."
)
@bench_frame(attachable=True)
def bench_failover(
    run: BenchRun, *, kills: int, how: str, rate: float, pause: float, shards: int
) -> FailoverReport:
    """Inject a fault in the leader repeatedly, and measure how long no results are published.

    Each round waits until one replica leads and all others are standby and in sync. Measured is
    the longest silence between consecutive results around the fault, as a follower of the
    results topic sees them; it includes the usual distance of 1/rate. With several shards the
    latency of the others is measured, too, before and after each fault.
    """
    fault = Fault(how)
    system = run.start(shards)
    shards = system.plan.shards
    load = run.open_load(system, 1 if shards == 1 else shards * LEDGERS_PER_SHARD)
    load.start(rate * shards)
    rounds = _Rounds(system, load, fault, pause).run(kills)
    load.stop()
    first = [done.takeovers[0] for done in rounds if done.takeovers]
    return FailoverReport(
        machine=run.machine,
        audit=load.findings(),
        check=run.check(system, load),
        how=fault,
        replicas=system.plan.replicas,
        shards=shards,
        rate=rate,
        rounds=rounds,
        unavailable=distribution([done.unavailable_ms for done in rounds]),
        by_kafka=distribution([done.by_kafka_ms for done in rounds]),
        usual=distribution([done.usual_ms for done in rounds]),
        others=_others(load, rounds) if shards > 1 else None,
        phases=_phases(first),
        causes=dict(Counter(takeover.cause for takeover in first)),
        rounds_with_further_takeovers=sum(len(done.takeovers) > 1 for done in rounds),
    )


class _Rounds:
    def __init__(self, system: BenchSystem, load: Load, fault: Fault, pause_s: float) -> None:
        self._system, self._load = system, load
        self._fault, self._pause_s = fault, pause_s
        self._shard = shard_of(DEFAULT_KEY, system.plan.shards)
        self._injector = FaultInjector(system)

    def run(self, count: int) -> list[Round]:
        rounds = []
        with step(f"{count} rounds of {self._fault}"):
            for number in range(1, count + 1):
                show_status(f"round {number} of {count}: waiting until all are in sync")
                rounds.append(self._round(number))
                print_line(f"{number:>3}/{count}  {rounds[-1].summary()}")
        return rounds

    def _round(self, number: int) -> Round:
        load, shard = self._load, self._shard
        leader = leader_of(wait_until_settled(self._system, shard)).name
        time.sleep(QUIET_S)
        load.poll()
        known = len(load.failovers)
        show_status(f"round {number}: {self._fault} of {leader}")
        at_ns, at_ms = self._injector.inject(
            self._fault, leader, lasts_s=self._pause_s, shard=shard
        )
        time.sleep(WATCH_S)
        end_ns, end_ms = time.monotonic_ns(), time.time_ns() // 1_000_000
        load.poll()
        seen_ns = load.seen_ns[shard]
        before_ns = seen_ns[: bisect_right(seen_ns, at_ns)]
        takeovers = load.takeovers(shard, since=known)
        return Round(
            number=number,
            at=at_ms,
            at_ns=at_ns,
            previous=leader,
            leader=takeovers[-1].leader if takeovers else leader,
            unavailable_ms=longest_gap_ms(seen_ns, at_ns, end_ns, digits=3),
            by_kafka_ms=longest_gap(load.stamps_ms[shard], at_ms, end_ms).length,
            usual_ms=longest_gap_ms(before_ns, at_ns - int(QUIET_S * 1e9), before_ns[-1], digits=3),
            takeovers=takeovers,
        )


def _others(load: Load, rounds: list[Round]) -> OtherShards:
    intended_ns, shard = load.sender.intended_ns, shard_of(DEFAULT_KEY, len(load.seen_ns))
    latencies = load.latency_ms(range(len(load.sent)))
    own = {at for at, seen in load.outcomes.items() if seen.partition == shard}

    def sent(from_s: float, to_s: float) -> Distribution:
        """Relative to each fault; the schedule of sending is ascending."""
        found: list[float] = []
        for done in rounds:
            first = bisect_left(intended_ns, done.at_ns + int(from_s * 1e9))
            end = bisect_right(intended_ns, done.at_ns + int(to_s * 1e9))
            positions = (at for at in range(first, end) if at in latencies and at not in own)
            found += (latencies[at] for at in positions)
        return distribution(found)

    return OtherShards(before=sent(-QUIET_S, 0), after=sent(0, WATCH_S))


def _phases(takeovers: list[Failover]) -> dict[str, Distribution]:
    phases = ("detect", "claim", "resume", "total") if takeovers else ()
    return {
        phase: distribution([getattr(takeover, f"{phase}_ms") for takeover in takeovers])
        for phase in phases
    }
