"""Percentiles, and the longest silence between results."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from postjournal.cli.errors import OperationFailed


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """Of measured values, in their unit. Percentiles are values that occurred (nearest rank)."""

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    max: float


class Gap(msgspec.Struct, frozen=True):
    """No result came between `start` and `end`, which have the unit of the given times."""

    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start


def distribution(values: Sequence[float]) -> Distribution:
    """Describe some values. Raises `OperationFailed` when there are none."""
    if not values:
        raise OperationFailed("nothing was measured: no result was seen; see the replicas' logs")
    ordered = sorted(values)
    return Distribution(
        count=len(ordered),
        mean=round(sum(ordered) / len(ordered), 3),
        p50=percentile(ordered, 50),
        p90=percentile(ordered, 90),
        p99=percentile(ordered, 99),
        max=round(ordered[-1], 3),
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` % of the ascending values do not exceed."""
    rank = math.ceil(len(ordered) * percent / 100)
    return round(ordered[max(rank, 1) - 1], 3)


def longest_gap(times: Sequence[int], start: int, end: int) -> Gap:
    """The longest silence that overlaps the time from `start` to `end`.

    `times`: when results were seen, ascending. A silence that began before `start` counts
    whole; one that has not ended by `end` counts up to the next result, or to `end` without
    one.
    """
    first = max(bisect_right(times, start) - 1, 0)
    last = bisect_left(times, end)
    touched = list(times[first : last + 1])
    if not touched or touched[-1] < end:
        touched.append(end)
    if touched[0] > start:
        touched.insert(0, start)
    gaps = [Gap(before, after) for before, after in pairwise(touched)]
    return max(gaps, key=lambda gap: gap.length, default=Gap(start, end))


def longest_gap_ms(times_ns: Sequence[int], start_ns: int, end_ns: int, digits: int = 1) -> float:
    """The length of the longest silence in ms, of times in ns."""
    return round(longest_gap(times_ns, start_ns, end_ns).length / 1e6, digits)
