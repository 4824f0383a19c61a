"""Analyzes the results of a throughput run: rates, the standby's lag, and the audit."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass

import msgspec

from loadtest.kafka import read_all
from loadtest.system import BenchSystem
from loadtest.workload.audit import Auditor, Findings
from loadtest.workload.preload import Transfers
from postjournal.cluster.status import ReplicaStatus, decode_status


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Transfers per second by Kafka's timestamps of their results.

    `whole`: from the first to the last, `seconds` apart; `steady`: without the first and the
    last tenth; `per_second`: the number of results in each second of the run, by timestamp.
    """

    whole: float
    steady: float
    seconds: float
    per_second: list[int]


class LagSample(msgspec.Struct, frozen=True):
    """`at_s`: since the first result; `lag_s`: how old the standby's state was then."""

    replica: str
    at_s: float
    lag_s: float


@dataclass
class Results:
    """`stamps_ms`: Kafka's timestamp of each result, by its sequence."""

    stamps_ms: array[int]
    rates: Rates
    findings: Findings


def read_results(system: BenchSystem, transfers: Transfers, shard: int = 0) -> Results:
    """Read the whole results topic, and audit it."""
    auditor, stamps = Auditor(transfers), array("q")
    for stamp_ms, value in read_all(system.kafka, system.results_topic, shard):
        repeats = auditor.repeats
        auditor.add(shard, value)
        if auditor.repeats == repeats:
            stamps.append(stamp_ms)
    return Results(stamps, rates_of(stamps[transfers.first_transfer :]), auditor.findings())


def rates_of(stamps_ms: array[int]) -> Rates:
    """The rates of results, in their order."""
    count, start = len(stamps_ms), stamps_ms[0]
    tenth = count // 10
    per_second = Counter((stamp - start) // 1000 for stamp in stamps_ms)
    return Rates(
        whole=_rate(stamps_ms, 0, count - 1),
        steady=_rate(stamps_ms, tenth, count - 1 - tenth),
        seconds=round((stamps_ms[-1] - start) / 1000, 3),
        per_second=[per_second[second] for second in range(max(per_second) + 1)],
    )


def _rate(stamps_ms: array[int], first: int, last: int) -> float:
    elapsed_s = max(stamps_ms[last] - stamps_ms[first], 1) / 1000
    return round((last - first) / elapsed_s, 1)


def standby_lag(system: BenchSystem, stamps_ms: array[int], shard: int = 0) -> list[LagSample]:
    """The standbys' lags, from their status records during the run."""
    records = read_all(system.kafka, system.topics.status, shard)
    statuses = (decode_status(value) for _, value in records)
    return [
        LagSample(status.replica, *lag)
        for status in statuses
        if isinstance(status, ReplicaStatus) and status.state != "leader"
        for lag in [lag_at(status.time, status.seq, stamps_ms)]
        if lag is not None
    ]


def lag_at(time_ms: int, seq: int, stamps_ms: array[int]) -> tuple[float, float] | None:
    """(s since the first result, s by which the state was behind); None outside of the run.

    A standby whose next sequence is `seq` at `time_ms` lacks the result `seq`. It has been
    behind since that result was published, if it was; a replica that has all has no lag.
    """
    if not stamps_ms[0] <= time_ms <= stamps_ms[-1]:
        return None
    published = bisect_left(stamps_ms, time_ms)
    lag_ms = time_ms - stamps_ms[seq] if seq < published else 0
    return (time_ms - stamps_ms[0]) / 1000, lag_ms / 1000
