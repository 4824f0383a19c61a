"""`bench failover`: how long results stay away when the leader does."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter
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
    leader_of,
    stage_for,
    wait_until_settled,
)
from loadtest.faults.harm import DISCONNECT, HANDOVER, KILL, PAUSE, Harm
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
from postjournal.cli.options import Range
from postjournal.cluster.status import Failover
from postjournal.cluster.topics import DEFAULT_KEY, shard_of

QUIET_S = 1.0
"""Nothing is asked of anybody for so long before each event; it shows the usual gaps as well."""

WATCH_S = 2.0
"""So long after an event (after its end, if it is a pause) silences count as its doing."""


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One event; durations in ms.

    `unavailable_ms`: the longest silence between two results as they were seen; `by_kafka_ms`:
    the same by Kafka's timestamps; `usual_ms`: the longest silence in the second before.
    `takeovers`: what the new leaders told of themselves; there should be one.
    """

    number: int
    at: int
    previous: str
    leader: str
    unavailable_ms: float
    by_kafka_ms: float
    usual_ms: float
    takeovers: list[Failover]


class FailoverReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the JSON file holds. Distributions in ms; `phases` as the new leaders measured them.

    The cadence of results is 1/rate: nothing is subtracted for it.
    """

    bench: str
    how: str
    machine: Machine
    replicas: int
    rate: float
    rounds: list[Round]
    unavailable: Distribution
    by_kafka: Distribution
    usual: Distribution
    phases: dict[str, Distribution]
    causes: dict[str, int]
    rounds_with_further_takeovers: int
    audit: Findings
    check: ReplicasCheck


@click.command("failover")
@click.option("--kills", type=click.IntRange(1, 10_000), default=30, show_default=True)
@click.option(
    "--how",
    type=click.Choice((KILL, PAUSE, HANDOVER, DISCONNECT)),
    default=KILL,
    show_default=True,
    help="SIGKILL; SIGSTOP and after some time SIGCONT; the leader is asked to resign; or a "
    "container is cut off its networks for some time (with --attach to `up --docker`).",
)
@click.option(
    "--rate",
    type=Range(1, 5_000),
    default=200,
    show_default=True,
    help="Commands per second; results cannot be less than 1/rate apart.",
)
@click.option("--pause", "pause_s", type=Range(0.1, 60), default=3, show_default=True, help="s")
@seed_option
@system_options
@report_options
def bench_failover(
    *,
    kills: int,
    how: str,
    rate: float,
    pause_s: float,
    seed: int,
    replicas: int,
    attach: bool,
    as_json: bool,
    output: Path | None,
) -> None:
    """Harm the leader again and again, and measure how long results stay away.

    Each round waits until one replica leads and all others are standby and in sync. Measured is
    the longest silence between consecutive results around the event, as a follower of the
    results topic sees them; the usual distance of 1/rate is in it.
    """
    machine = this_machine()
    with stage_for(attach=attach, replicas=replicas) as stage:
        shard = shard_of(DEFAULT_KEY, stage.plan.shards)
        wait_until_settled(stage, shard)
        warm_up_broker(stage)
        with load_on(stage, seed) as load:
            load.start(rate)
            rounds = _Rounds(stage, load, shard, how, pause_s).run(kills)
            load.stop()
            findings = load.findings()
            check = check_replicas(stage, {shard: load.auditor.balances})
        stage.keep = not (findings.ok and check.ok)
        report = _report(
            machine=machine,
            how=how,
            replicas=stage.plan.replicas,
            rate=rate,
            rounds=rounds,
            findings=findings,
            check=check,
        )
    tables = [*_tables(report), check_line(check), findings_line(findings)]
    publish(f"failover-{how}", report, tables, as_json=as_json, output=output)
    conclude(findings_faults(findings) + check_faults(check))


class _Rounds:
    def __init__(self, stage: Stage, load: Load, shard: int, how: str, pause_s: float) -> None:
        self._stage, self._load, self._shard = stage, load, shard
        self._how, self._pause_s = how, pause_s
        self._harm = Harm(stage)

    def run(self, count: int) -> list[Round]:
        rounds = []
        with step(f"{count} rounds of {self._how}"):
            for number in range(1, count + 1):
                show(f"round {number} of {count}: waiting until all are in sync")
                rounds.append(self._round(number))
                say(_told(rounds[-1], count))
        return rounds

    def _round(self, number: int) -> Round:
        leader = leader_of(wait_until_settled(self._stage, self._shard))
        time.sleep(QUIET_S)
        self._load.catch_up()
        known = len(self._load.failovers)
        show(f"round {number}: {self._how} of {leader.name}")
        at_ns, at_ms = self._harm.do(self._how, leader, self._pause_s)
        time.sleep(WATCH_S)
        end_ns, end_ms = time.monotonic_ns(), time.time_ns() // 1_000_000
        self._load.catch_up()
        seen_ns, stamps_ms = self._load.fresh_ns[self._shard], self._load.fresh_ms[self._shard]
        before_ns = seen_ns[: bisect_right(seen_ns, at_ns)]
        usual = longest_gap(before_ns, at_ns - int(QUIET_S * 1e9), before_ns[-1])
        takeovers = [each for each in self._load.failovers[known:] if each.shard == self._shard]
        return Round(
            number=number,
            at=at_ms,
            previous=leader.name,
            leader=takeovers[-1].leader if takeovers else leader.name,
            unavailable_ms=round(longest_gap(seen_ns, at_ns, end_ns).length / 1e6, 3),
            by_kafka_ms=longest_gap(stamps_ms, at_ms, end_ms).length,
            usual_ms=round(usual.length / 1e6, 3),
            takeovers=takeovers,
        )


def _told(done: Round, count: int) -> str:
    takeover = done.takeovers[0] if done.takeovers else None
    phases = (
        f"{takeover.cause}: detect {takeover.detect_ms:.0f}, claim {takeover.claim_ms:.0f}, "
        f"resume {takeover.resume_ms:.0f}"
        if takeover
        else "no takeover was told"
    )
    return (
        f"{done.number:>3}/{count}  {done.previous} → {done.leader}  "
        f"{done.unavailable_ms:7.1f} ms  ({phases})"
    )


def _report(
    *,
    machine: Machine,
    how: str,
    replicas: int,
    rate: float,
    rounds: list[Round],
    findings: Findings,
    check: ReplicasCheck,
) -> FailoverReport:
    first = [each.takeovers[0] for each in rounds if each.takeovers]
    return FailoverReport(
        bench="failover",
        how=how,
        machine=machine,
        replicas=replicas,
        rate=rate,
        rounds=rounds,
        unavailable=distribution([each.unavailable_ms for each in rounds]),
        by_kafka=distribution([each.by_kafka_ms for each in rounds]),
        usual=distribution([each.usual_ms for each in rounds]),
        phases=_phases(first),
        causes=dict(Counter(each.cause for each in first)),
        rounds_with_further_takeovers=sum(len(each.takeovers) > 1 for each in rounds),
        audit=findings,
        check=check,
    )


def _phases(takeovers: list[Failover]) -> dict[str, Distribution]:
    if not takeovers:
        return {}
    return {
        "detect": distribution([each.detect_ms for each in takeovers]),
        "claim": distribution([each.claim_ms for each in takeovers]),
        "resume": distribution([each.resume_ms for each in takeovers]),
        "total": distribution([each.total_ms for each in takeovers]),
    }


def _tables(report: FailoverReport) -> list[RenderableType]:
    rows = {
        "unavailable, as seen outside": report.unavailable,
        "  by Kafka's timestamps": report.by_kafka,
        "longest silence just before": report.usual,
        **{f"new leader: {name}": phase for name, phase in report.phases.items()},
    }
    causes = ", ".join(f"{cause} {count}" for cause, count in report.causes.items())
    title = (
        f"{len(report.rounds)} × {report.how} of the leader at {report.rate:g} commands/s "
        f"(results are {1000 / report.rate:g} ms apart at best), {report.replicas} replicas"
    )
    further = report.rounds_with_further_takeovers
    told = f"causes: {causes or 'none told'}; rounds with further takeovers: {further}"
    return [*distribution_tables(title, "ms", rows), told]
