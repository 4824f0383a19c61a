"""`bench snapshot`: what taking snapshots of a large state does to those who must not notice."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import click
import msgspec
from rich.console import RenderableType

from loadtest.bench.options import report_options, seed_option
from loadtest.bench.recovery import COORDINATOR, wait_for
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
    leader_of,
    own_stage,
    wait_until_settled,
)
from loadtest.faults.harm import KILL, Harm
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
from loadtest.workload.commands import Order, encode
from loadtest.workload.load import Load, load_on
from loadtest.workload.preload import preload
from postjournal.adapters.kafka.admin import ensure_topics, wait_for_kafka
from postjournal.cli.coordinator import CoordinatorClient, SnapshotRow
from postjournal.cli.errors import OperationFailed
from postjournal.cli.http import direct_session
from postjournal.cli.local.programs import SERVICES
from postjournal.cli.local.status import ReplicaRow
from postjournal.cli.local.supervisor import Supervisor
from postjournal.cli.ranges import Range
from postjournal.cluster.status import Failover

SHARD = 0
QUIET_S, WATCH_S = 1.0, 2.0
READ_S = 0.005
POLL_S = 0.05
UNDER_WAY = ("writing", "verifying")
LATEST_KILL = 0.7
"""Of the shortest of the snapshots before: then the leader is killed while one is under way."""


class Answer(msgspec.Struct, frozen=True):
    """A standby's to a read: asked and answered when (ms since the Unix epoch), true at `seq`."""

    asked_ms: float
    answered_ms: float
    seq: int


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One snapshot; durations in ms.

    `fork_ms`: as the taker tells; `slowest_answer_ms`: of its answers to reads meanwhile;
    `lag_ms`: how old its state was at most, when it answered (neither is measured where the
    leader is killed); `unavailable_ms`: the longest silence between two results; `usual_ms`: the
    same in the second before.
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


class SnapshotReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the JSON file holds."""

    bench: str
    machine: Machine
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
    audit: Findings
    check: ReplicasCheck


@click.command("snapshot")
@click.option("--accounts", type=click.IntRange(1_000, 5_000_000), default=1_000_000)
@click.option("--rate", type=Range(1, 5_000), default=500, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 1_000), default=5, show_default=True)
@click.option("--kills", type=click.IntRange(1, 1_000), default=5, show_default=True)
@seed_option
@report_options
def bench_snapshot(
    *,
    accounts: int,
    rate: float,
    rounds: int,
    kills: int,
    seed: int,
    as_json: bool,
    output: Path | None,
) -> None:
    """Take snapshots of a large state under load, and kill the leader during some of them.

    Three replicas and a coordinator of its own, 1,000,000 accounts by default. The taker is
    asked for a balance all the time meanwhile: that shows how long it stands still, and how
    fresh its state is.
    """
    machine, rng = this_machine(), Random(seed)
    with own_stage(3, launch=False) as stage:
        _fill(stage, accounts)
        warm_up_broker(stage)
        with load_on(stage, seed) as load:
            load.start(rate)
            play = _Play(stage, load)
            with step(f"{rounds} snapshots"):
                plain = [told(play.plain()) for _ in range(rounds)]
            with step(f"{kills} snapshots with a SIGKILL of the leader"):
                killed = _killings(play, plain, kills, rng)
            load.stop()
            findings = load.findings()
            check = check_replicas(stage, {SHARD: load.auditor.balances})
        stage.keep = not (findings.ok and check.ok)
    report = _report(
        machine=machine,
        accounts=accounts,
        rate=rate,
        rounds=plain,
        kills=killed,
        findings=findings,
        check=check,
    )
    tables = [*_tables(report), check_line(check), findings_line(findings)]
    publish("snapshot", report, tables, as_json=as_json, output=output)
    conclude(findings_faults(findings) + check_faults(check))


def _killings(play: _Play, plain: list[Round], kills: int, rng: Random) -> list[Round]:
    """Snapshots in which the leader died; one that was done before is told, not counted."""
    shortest_ms = min(each.duration_ms for each in plain)
    killed: list[Round] = []
    missed = 0
    while len(killed) < kills:
        done, in_time = play.killing(rng.uniform(0, LATEST_KILL * shortest_ms) / 1000)
        if in_time:
            killed.append(told(done))
            continue
        say(f"not counted: that snapshot was done in {done.duration_ms} ms, before the kill")
        shortest_ms = min(shortest_ms, done.duration_ms)
        missed += 1
        if missed > kills:
            raise OperationFailed(
                f"{missed} snapshots were done before the leader was killed: take more accounts"
            )
    return killed


def _fill(stage: Stage, accounts: int) -> None:
    """Open the accounts, before the replicas start."""
    topics = stage.topics
    with step(f"opening {accounts:,} accounts"):
        ensure_topics(wait_for_kafka(stage.kafka), topics, stage.plan.shards, 1)
        opens = (encode(Order("open", f"a{n}"), f"open-{n}") for n in range(accounts))
        preload(stage.kafka, topics.source_topics[1], SHARD, opens)
        stage.launch_replicas()
        Supervisor(stage.local.plan.socket).start(SERVICES, COORDINATOR)
        wait_for(lambda: all((row.seq or 0) >= accounts for row in stage.rows(SHARD)))
    wait_until_settled(stage, SHARD, same_seq=True)


class _Play:
    def __init__(self, stage: Stage, load: Load) -> None:
        self._stage, self._load = stage, load
        self._coordinator = CoordinatorClient(stage.plan.url(COORDINATOR))
        self._harm = Harm(stage)
        topic = stage.topics.sink_topics["results"]
        self._first_seq = load.watcher.starts[topic, SHARD]
        self._leader: ReplicaRow | None = None
        self._usual_ms = 0.0

    def plain(self) -> Round:
        """Nobody is harmed; the taker is asked all the time."""
        row = self._begin()
        at_ns = time.monotonic_ns()
        with _asking(f"http://{self._http(row.replica)}") as answers:
            row = self._wait(row.id, ("done",))
        time.sleep(0.2)
        return self._told(row, answers, at_ns)

    def killing(self, delay_s: float) -> tuple[Round, bool]:
        """The leader is killed so long after the snapshot began; nobody asks anything then.

        Also says whether the snapshot was still under way.
        """
        row = self._begin()
        leader, known = self._leader, len(self._load.failovers)
        assert leader is not None
        self._wait(row.id, UNDER_WAY)
        time.sleep(delay_s)
        at_ns, at_ms = self._harm.do(KILL, leader, 0)
        time.sleep(WATCH_S)
        row = self._wait(row.id, ("done",))
        done = self._told(row, [], at_ns)
        takeovers = self._load.failovers[known:]
        done = msgspec.structs.replace(done, killed=leader.name, takeovers=takeovers)
        return done, row.time + done.duration_ms >= at_ms

    def _begin(self) -> SnapshotRow:
        """All are in sync, and a snapshot is asked for."""
        self._leader = leader_of(wait_until_settled(self._stage, SHARD))
        quiet_ns = time.monotonic_ns()
        time.sleep(QUIET_S)
        self._load.catch_up()
        seen_ns = self._load.fresh_ns[SHARD]
        self._usual_ms = round(longest_gap(seen_ns, quiet_ns, seen_ns[-1]).length / 1e6, 1)
        return self._ask()

    def _ask(self) -> SnapshotRow:
        """As soon as the coordinator knows a standby."""
        rows: list[SnapshotRow] = []

        def accepted() -> bool:
            try:
                rows[:] = self._coordinator.ask(SHARD, allow_leader=False)[1]
            except OperationFailed:
                return False
            return True

        wait_for(accepted)
        return rows[0]

    def _wait(self, snapshot_id: str, states: tuple[str, ...]) -> SnapshotRow:
        while True:
            (row,) = self._coordinator.snapshot(snapshot_id)
            show(f"snapshot {snapshot_id}: {row.state}")
            if row.state in (*states, "done"):
                return row
            if row.state == "failed":
                raise OperationFailed(f"the snapshot failed: {row.error}")
            time.sleep(POLL_S)

    def _http(self, name: str) -> str:
        return next(row.http for row in self._stage.rows(SHARD) if row.name == name)

    def _told(self, row: SnapshotRow, answers: list[Answer], at_ns: int) -> Round:
        self._load.catch_up()
        told = [each for each in self._load.progress if each.id == row.id]
        stamps = self._load.fresh_ms[SHARD]
        end_ns = time.monotonic_ns()
        gap = longest_gap(self._load.fresh_ns[SHARD], at_ns, end_ns)
        return Round(
            taker=row.replica,
            duration_ms=row.duration_ms or 0,
            bytes=row.size or 0,
            fork_ms=max((each.fork_ms for each in told), default=0.0),
            slowest_answer_ms=round(max([a.answered_ms - a.asked_ms for a in answers] or [0]), 1),
            lag_ms=round(max([behind_ms(a, stamps, self._first_seq) for a in answers] or [0]), 1),
            unavailable_ms=round(gap.length / 1e6, 1),
            usual_ms=self._usual_ms,
        )


def behind_ms(answer: Answer, stamps_ms: array[int], first_seq: int) -> float:
    """How long the first result that the answer does not account for had been published."""
    position = max(answer.seq + 1 - first_seq, 0)
    return max(answer.answered_ms - stamps_ms[position], 0.0) if position < len(stamps_ms) else 0.0


@contextmanager
def _asking(url: str) -> Iterator[list[Answer]]:
    """Ask a replica for a balance, again and again, in a thread."""
    answers: list[Answer] = []
    stop = threading.Event()

    def run() -> None:
        query = {"account": "a0", "consistency": "any"}
        with direct_session() as session:
            while not stop.is_set():
                asked_ms = time.time() * 1000
                answer = session.get(f"{url}/query/{SHARD}", params=query, timeout=10)
                if answer.status_code == 200:
                    seq = answer.json()["seq"]
                    answers.append(Answer(asked_ms, time.time() * 1000, seq))
                time.sleep(READ_S)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield answers
    finally:
        stop.set()
        thread.join()


def told(done: Round) -> Round:
    """Said, and given back."""
    head = (
        f"{done.taker}: {done.bytes:,} bytes in {done.duration_ms} ms; fork {done.fork_ms:.1f} ms"
    )
    if done.killed is None:
        say(f"{head}, slowest answer {done.slowest_answer_ms:.0f} ms, behind {done.lag_ms:.0f} ms")
        return done
    phases = [
        f"{each.leader} led after detect {each.detect_ms:.0f}, claim {each.claim_ms:.0f}, resume "
        f"{each.resume_ms:.0f}"
        for each in done.takeovers
    ]
    say(f"{head}; {done.killed} killed: {done.unavailable_ms:.1f} ms ({'; '.join(phases)})")
    return done


def _report(
    *,
    machine: Machine,
    accounts: int,
    rate: float,
    rounds: list[Round],
    kills: list[Round],
    findings: Findings,
    check: ReplicasCheck,
) -> SnapshotReport:
    every = [*rounds, *kills]
    return SnapshotReport(
        bench="snapshot",
        machine=machine,
        accounts=accounts,
        rate=rate,
        rounds=rounds,
        kills=kills,
        duration=distribution([each.duration_ms for each in every]),
        fork=distribution([each.fork_ms for each in every]),
        lag=distribution([each.lag_ms for each in rounds]),
        usual=distribution([each.usual_ms for each in every]),
        unavailable=distribution([each.unavailable_ms for each in rounds]),
        unavailable_by_kill=distribution([each.unavailable_ms for each in kills]),
        audit=findings,
        check=check,
    )


def _tables(report: SnapshotReport) -> list[RenderableType]:
    rows = {
        "a snapshot takes": report.duration,
        "the taker stands still, to fork": report.fork,
        "the taker is behind by at most": report.lag,
        "longest silence in the second before": report.usual,
        "longest silence during a snapshot": report.unavailable,
        "the same, the leader killed": report.unavailable_by_kill,
    }
    title = (
        f"{len(report.rounds)} snapshots, and {len(report.kills)} with a SIGKILL of the leader, of "
        f"{report.accounts:,} accounts at {report.rate:g} commands/s, 3 replicas"
    )
    return distribution_tables(title, "ms", rows)
