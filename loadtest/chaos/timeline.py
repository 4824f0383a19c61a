"""What happened when, from what was seen: for the picture and the tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from loadtest.faults.striker import Blow
from loadtest.stats import longest_gap
from loadtest.workload.load import Load
from postjournal.cluster.status import ReplicaStatus

AFTER_S = 6.0
"""A silence that begins so long after the end of a strike is not its doing."""


class Reign(msgspec.Struct, frozen=True, kw_only=True):
    """Who led a shard. `from_s`, `to_s`: since the load began, as the leader's status tells."""

    shard: int
    leader: str
    epoch: int
    from_s: float
    to_s: float


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """`results`: shard → results in each second; `silences_ms`: for each blow the longest silence
    of any shard from then until the next blow, or a little after its end."""

    seconds: float
    results: list[list[int]]
    reigns: list[Reign]
    silences_ms: list[float]
    longest_silence_ms: float


def draw_up(load: Load, blows: Sequence[Blow], begun_ms: int, seconds: float) -> Timeline:
    """`begun_ms`: when the load began, ms since the Unix epoch."""
    stamps = [[stamp - begun_ms for stamp in shard] for shard in load.fresh_ms]
    silences = [_silence_ms(stamps, blow, _until_s(blow, blows)) for blow in blows]
    return Timeline(
        seconds=round(seconds, 1),
        results=[_per_second(shard, seconds) for shard in stamps],
        reigns=reigns_of(load.statuses, begun_ms),
        silences_ms=silences,
        longest_silence_ms=max((_longest(shard, seconds) for shard in stamps), default=0.0),
    )


def _per_second(stamps_ms: Sequence[int], seconds: float) -> list[int]:
    counts = Counter(stamp // 1000 for stamp in stamps_ms)
    return [counts[second] for second in range(int(seconds))]


def _longest(stamps_ms: Sequence[int], seconds: float) -> float:
    ordered = sorted(stamps_ms)
    return float(longest_gap(ordered, 0, int(seconds * 1000)).length)


def _until_s(blow: Blow, blows: Sequence[Blow]) -> float:
    later = [other.at_s for other in blows if other.at_s > blow.at_s]
    return min([blow.end_s + AFTER_S, *later])


def _silence_ms(stamps: Sequence[Sequence[int]], blow: Blow, until_s: float) -> float:
    gaps = [
        longest_gap(sorted(shard), int(blow.at_s * 1000), int(until_s * 1000)).length
        for shard in stamps
    ]
    return float(max(gaps, default=0))


def reigns_of(statuses: Sequence[ReplicaStatus], begun_ms: int) -> list[Reign]:
    """From the leaders' own words, once a second and at each change; by their clocks."""
    found: dict[tuple[int, int], Reign] = {}
    for status in statuses:
        if status.state != "leader":
            continue
        at_s, place = (status.time - begun_ms) / 1000, (status.shard, status.epoch)
        before = found.get(place)
        found[place] = Reign(
            shard=status.shard,
            leader=status.replica,
            epoch=status.epoch,
            from_s=round(min(at_s, before.from_s if before else at_s), 3),
            to_s=round(max(at_s, before.to_s if before else at_s), 3),
        )
    return sorted(found.values(), key=lambda reign: (reign.shard, reign.from_s))
