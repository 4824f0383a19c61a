"""`bench snapshot`: how taking snapshots of a large state affects reads and results."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from random import Random

import click
import msgspec
from rich.console import RenderableType

from loadtest.bench.frame import BenchRun, CheckedReport, bench_frame
from loadtest.bench.tables import distribution_tables
from loadtest.bench.warm_up import warm_up_broker
from loadtest.faults.injector import FaultInjector
from loadtest.faults.kinds import Fault
from loadtest.kafka import create_topics
from loadtest.options import number_option
from loadtest.progress import print_line, step
from loadtest.stats import Distribution, distribution, longest_gap_ms
from loadtest.system import BenchSystem, leader_of, wait_until_settled
from loadtest.waiting import wait_for
from loadtest.workload.commands import CommandSpec, encode
from loadtest.workload.load import Load
from loadtest.workload.preload import preload
from loadtest.workload.query_connection import BalanceAnswer, QueryConnection
from loadtest.workload.snapshots import (
    COORDINATOR,
    request_snapshot,
    wait_for_snapshot,
)
from postjournal.cli.coordinator import SnapshotRow
from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.programs import SERVICES
from postjournal.cli.local.supervisor import Supervisor
from postjournal.cli.options import Range
from postjournal.cluster.status import Failover

SHARD = 0
QUIET_S, WATCH_S = 1.0, 2.0
QUERY_INTERVAL_S, QUERY_TIMEOUT_S = 0.005, 10.0
FILL_TIMEOUT_S = 300.0
UNDER_WAY = ("writing", "verifying")
LATEST_KILL = 0.7
"""Of the shortest snapshot so far, so that the leader is killed while one is under way."""


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One snapshot; durations in ms.

    `fork_ms`: as the replica that took it reports; `slowest_answer_ms`: of its answers to reads
    meanwhile; `lag_ms`: how old its state was at most, when it answered (neither is measured
    where the leader is killed); `unavailable_ms`: the longest silence between two results;
    `usual_ms`: the same in the second before.
    """

    taker: str
    duration_ms: int
    bytes: int
    fork_ms: float
    slowest_answer_ms: float
    lag_ms: float
    unavailable_ms: float
    usual_ms: float
    killed: str | None = None
    takeovers: list[Failover] = []

    def summary(self) -> str:
        head = (
            f"{self.taker}: {self.bytes:,} bytes in {self.duration_ms} ms; fork "
            f"{self.fork_ms:.1f} ms"
        )
        if self.killed is None:
            return (
                f"{head}, slowest answer {self.slowest_answer_ms:.0f} ms, behind "
                f"{self.lag_ms:.0f} ms"
            )
        phases = [
            f"{takeover.leader} led after detect {takeover.detect_ms:.0f}, claim "
            f"{takeover.claim_ms:.0f}, resume {takeover.resume_ms:.0f}"
            for takeover in self.takeovers
        ]
        return f"{head}; {self.killed} killed: {self.unavailable_ms:.1f} ms ({'; '.join(phases)})"


class SnapshotReport(CheckedReport, frozen=True, kw_only=True, tag="snapshot"):
    """Distributions in ms. `rounds`: undisturbed snapshots; `kills`: with a kill of the leader."""

    accounts: int
    rate: float
    rounds: list[Round]
    kills: list[Round]
    duration: Distribution
    fork: Distribution
    lag: Distribution
    usual: Distribution
    unavailable: Distribution
    unavailable_by_kill: Distribution

    def tables(self) -> Sequence[RenderableType]:
        rows = {
            "a snapshot takes": self.duration,
            "its replica pauses, to fork": self.fork,
            "its replica is behind by at most": self.lag,
            "longest silence in the second before": self.usual,
            "longest silence during a snapshot": self.unavailable,
            "the same, the leader killed": self.unavailable_by_kill,
        }
        title = (
            f"{len(self.rounds)} snapshots, and {len(self.kills)} with a SIGKILL of the leader, of "
            f"{self.accounts:,} accounts at {self.rate:g} commands/s, 3 replicas"
        )
        return distribution_tables(title, "ms", rows)


@click.command("snapshot")
@number_option("--accounts", click.IntRange(1_000, 5_000_000), 1_000_000)
@number_option("--rate", Range(1, 5_000), 500, "Commands per second.")
@number_option("--rounds", click.IntRange(1, 1_000), 5, "Snapshots without a fault.")
@number_option("--kills", click.IntRange(1, 1_000), 5, "Snapshots with a SIGKILL of the leader.")
@bench_frame(attachable=False)
def bench_snapshot(
    run: BenchRun, *, accounts: int, rate: float, rounds: int, kills: int
) -> SnapshotReport:
    """Take snapshots of a large state under load, and kill the leader during some of them.

    Three replicas and a coordinator of its own. The replica that takes the snapshot is queried
    continuously meanwhile: that shows how long it pauses, and how old its state is.
    """
    system = run.start_storage(3)
    _fill(system, accounts)
    warm_up_broker(system)
    load = run.open_load(system)
    load.start(rate)
    snapshots = _Snapshots(system, load)
    with step(f"{rounds} snapshots"):
        plain = [_printed(snapshots.undisturbed()) for _ in range(rounds)]
    with step(f"{kills} snapshots with a SIGKILL of the leader"):
        killed = _with_kills(snapshots, plain, kills, Random(run.seed))
    load.stop()
    every = [*plain, *killed]
    return SnapshotReport(
        machine=run.machine,
        audit=load.findings(),
        check=run.check(system, load),
        accounts=accounts,
        rate=rate,
        rounds=plain,
        kills=killed,
        duration=distribution([taken.duration_ms for taken in every]),
        fork=distribution([taken.fork_ms for taken in every]),
        lag=distribution([taken.lag_ms for taken in plain]),
        usual=distribution([taken.usual_ms for taken in every]),
        unavailable=distribution([taken.unavailable_ms for taken in plain]),
        unavailable_by_kill=distribution([taken.unavailable_ms for taken in killed]),
    )


def _fill(system: BenchSystem, accounts: int) -> None:
    """Open the accounts, before the replicas start."""
    with step(f"opening {accounts:,} accounts"):
        create_topics(system.kafka, system.topics, system.plan.shards)
        opens = (encode(CommandSpec("open", f"a{n}"), f"open-{n}") for n in range(accounts))
        preload(system.kafka, system.feed_topic, SHARD, opens)
        system.launch_replicas()
        Supervisor(system.local.plan.socket).start(SERVICES, COORDINATOR)
        wait_for(
            lambda: all((row.seq or 0) >= accounts for row in system.rows(SHARD)),
            lambda: f"not all replicas have opened {accounts:,} accounts",
            FILL_TIMEOUT_S,
        )
    wait_until_settled(system, SHARD, same_seq=True)


def _with_kills(snapshots: _Snapshots, plain: list[Round], kills: int, rng: Random) -> list[Round]:
    """Snapshots during which the leader was killed; those done before the kill do not count."""
    shortest_ms = min(taken.duration_ms for taken in plain)
    killed: list[Round] = []
    missed = 0
    while len(killed) < kills:
        taken, in_time = snapshots.with_kill(rng.uniform(0, LATEST_KILL * shortest_ms) / 1000)
        if in_time:
            killed.append(_printed(taken))
            continue
        print_line(f"not counted: the snapshot was done in {taken.duration_ms} ms, before the kill")
        shortest_ms = min(shortest_ms, taken.duration_ms)
        missed += 1
        if missed > kills:
            raise OperationFailed(
                f"{missed} snapshots were done before the leader was killed: use more --accounts"
            )
    return killed


def _printed(taken: Round) -> Round:
    print_line(taken.summary())
    return taken


class _Snapshots:
    def __init__(self, system: BenchSystem, load: Load) -> None:
        self._system, self._load = system, load
        self._coordinator = system.coordinator()
        self._injector = FaultInjector(system)
        self._first_seq = load.watcher.starts[system.results_topic, SHARD]
        self._leader = ""
        self._usual_ms = 0.0

    def undisturbed(self) -> Round:
        """Take a snapshot, and query its replica all the time."""
        row = self._begin()
        at_ns = time.monotonic_ns()
        address = next(r.http for r in self._system.rows(SHARD) if r.name == row.replica)
        with _querying(address) as answers:
            row = wait_for_snapshot(self._coordinator, row.id)
        time.sleep(0.2)
        return self._round(row, answers, at_ns)

    def with_kill(self, delay_s: float) -> tuple[Round, bool]:
        """Take a snapshot, and kill the leader `delay_s` after it began; no query is sent.

        The second value is whether the snapshot was still under way at the kill.
        """
        row, known = self._begin(), len(self._load.failovers)
        wait_for_snapshot(self._coordinator, row.id, UNDER_WAY)
        time.sleep(delay_s)
        at_ns, at_ms = self._injector.inject(Fault.KILL, self._leader)
        time.sleep(WATCH_S)
        row = wait_for_snapshot(self._coordinator, row.id)
        taken = self._round(row, [], at_ns)
        takeovers = self._load.takeovers(SHARD, since=known)
        taken = msgspec.structs.replace(taken, killed=self._leader, takeovers=takeovers)
        return taken, row.time + taken.duration_ms >= at_ms

    def _begin(self) -> SnapshotRow:
        """Wait until all replicas are in sync, and request a snapshot."""
        self._leader = leader_of(wait_until_settled(self._system, SHARD)).name
        quiet_ns = time.monotonic_ns()
        time.sleep(QUIET_S)
        self._load.poll()
        seen_ns = self._load.seen_ns[SHARD]
        self._usual_ms = longest_gap_ms(seen_ns, quiet_ns, seen_ns[-1])
        return request_snapshot(self._coordinator, SHARD)

    def _round(self, row: SnapshotRow, answers: list[BalanceAnswer], at_ns: int) -> Round:
        self._load.poll()
        progress = [record for record in self._load.snapshot_progress if record.id == row.id]
        stamps, to_wall_ns = self._load.stamps_ms[SHARD], time.time_ns() - time.monotonic_ns()
        lags_ms = [
            behind_ms(
                answer.seq,
                (answer.sent_ns + answer.took_ns + to_wall_ns) / 1e6,
                stamps,
                self._first_seq,
            )
            for answer in answers
        ]
        return Round(
            taker=row.replica,
            duration_ms=row.duration_ms or 0,
            bytes=row.size or 0,
            fork_ms=max((record.fork_ms for record in progress), default=0.0),
            slowest_answer_ms=round(
                max((answer.took_ns for answer in answers), default=0) / 1e6, 1
            ),
            lag_ms=round(max(lags_ms, default=0.0), 1),
            unavailable_ms=longest_gap_ms(self._load.seen_ns[SHARD], at_ns, time.monotonic_ns()),
            usual_ms=self._usual_ms,
        )


def behind_ms(seq: int, answered_ms: float, stamps_ms: array[int], first_seq: int) -> float:
    """How old the first result is that an answer of `seq` does not account for.

    `answered_ms`: ms since the Unix epoch; `stamps_ms`: Kafka's timestamps of the results since
    `first_seq`.
    """
    position = max(seq + 1 - first_seq, 0)
    return max(answered_ms - stamps_ms[position], 0.0) if position < len(stamps_ms) else 0.0


@contextmanager
def _querying(address: str) -> Iterator[list[BalanceAnswer]]:
    """Query a replica's balance of one account continuously, in a thread."""
    answers: list[BalanceAnswer] = []
    stop = threading.Event()

    def run() -> None:
        with closing(QueryConnection(address, SHARD, QUERY_TIMEOUT_S)) as connection:
            while not stop.wait(QUERY_INTERVAL_S):
                answer = connection.balance("a0")
                if answer.error is None:
                    answers.append(answer)

    thread = threading.Thread(target=run, daemon=True, name="queries")
    thread.start()
    try:
        yield answers
    finally:
        stop.set()
        thread.join()
