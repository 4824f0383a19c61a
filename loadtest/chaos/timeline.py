"""What happened when, as seen from outside: for the chart and the tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from loadtest.faults.schedule_runner import InjectedFault
from loadtest.stats import longest_gap
from loadtest.workload.load import Load
from postjournal.cluster.status import ReplicaStatus

AFTER_S = 6.0
"""A silence that begins later after the end of a fault is not attributed to it."""


class LeadershipInterval(msgspec.Struct, frozen=True, kw_only=True):
    """When a replica led a shard. `from_s`, `to_s`: since the load began, by its status records."""

    shard: int
    leader: str
    epoch: int
    from_s: float
    to_s: float


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """`results`: shard → results in each second; `silences_ms`: for each fault the longest silence
    of any shard from then until the next fault, or a little after its end."""

    seconds: float
    results: list[list[int]]
    leaders: list[LeadershipInterval]
    silences_ms: list[float]
    longest_silence_ms: float


def timeline_of(
    load: Load, faults: Sequence[InjectedFault], started_ms: int, seconds: float
) -> Timeline:
    """`started_ms`: when the load began, ms since the Unix epoch."""
    stamps = [sorted(stamp - started_ms for stamp in shard) for shard in load.stamps_ms]
    silences = [_longest_ms(stamps, fault.at_s, _until_s(fault, faults)) for fault in faults]
    return Timeline(
        seconds=round(seconds, 1),
        results=[_per_second(shard, seconds) for shard in stamps],
        leaders=leadership_intervals(load.statuses, started_ms),
        silences_ms=silences,
        longest_silence_ms=_longest_ms(stamps, 0, seconds),
    )


def _per_second(stamps_ms: Sequence[int], seconds: float) -> list[int]:
    counts = Counter(stamp // 1000 for stamp in stamps_ms)
    return [counts[second] for second in range(int(seconds))]


def _until_s(fault: InjectedFault, faults: Sequence[InjectedFault]) -> float:
    later = [other.at_s for other in faults if other.at_s > fault.at_s]
    return min([fault.end_s + AFTER_S, *later])


def _longest_ms(stamps_ms: Sequence[Sequence[int]], from_s: float, to_s: float) -> float:
    start, end = int(from_s * 1000), int(to_s * 1000)
    return float(max((longest_gap(shard, start, end).length for shard in stamps_ms), default=0))


def leadership_intervals(
    statuses: Sequence[ReplicaStatus], started_ms: int
) -> list[LeadershipInterval]:
    """From the leaders' status records, once a second and at each change; by their clocks."""
    found: dict[tuple[int, int], LeadershipInterval] = {}
    for status in statuses:
        if status.state != "leader":
            continue
        at_s, key = (status.time - started_ms) / 1000, (status.shard, status.epoch)
        before = found.get(key)
        found[key] = LeadershipInterval(
            shard=status.shard,
            leader=status.replica,
            epoch=status.epoch,
            from_s=round(min(at_s, before.from_s if before else at_s), 3),
            to_s=round(max(at_s, before.to_s if before else at_s), 3),
        )
    return sorted(found.values(), key=lambda interval: (interval.shard, interval.from_s))
