"""Times of arrival instead of timestamps."""

from __future__ import annotations

import pytest

from postjournal.cluster.arrivals import Arrivals

NOW = 1_000_000


@pytest.mark.parametrize("clock_ms", [-500_000, 0, 500_000])
def test_records_that_were_there_keep_their_distances_and_the_latest_has_arrived_now(
    clock_ms: int,
) -> None:
    arrivals = Arrivals()
    read = [arrivals.of(NOW + clock_ms - age_ms, NOW - 10) for age_ms in (9_000, 2_000, 3_000)]
    by_ms = arrivals.settle(NOW)
    assert [NOW - (arrival + by_ms) for arrival in read] == [7_000, 0, 1_000]
    assert arrivals.settle(NOW + 1) == 0


def test_a_record_that_is_read_as_it_is_written_has_arrived_now() -> None:
    arrivals = Arrivals()
    assert arrivals.settle(NOW) == 0
    assert arrivals.of(NOW - 77_000, NOW + 5) == NOW + 5
