"""Which lines of many are logged."""

from __future__ import annotations

from services.replica.log_limits import ElectionMeter, LogLimit


def test_a_burst_is_logged_in_part_and_its_rest_counted() -> None:
    limit = LogLimit()
    assert [limit.admit(now_ms) for now_ms in range(8)] == [0] * 5 + [None] * 3
    assert limit.admit(10_000) == 3
    assert limit.admit(10_001) == 0


def test_few_elections_are_no_warning() -> None:
    meter = ElectionMeter()
    found = [meter.add(epoch, epoch * 30_000) for epoch in range(1, 20)]
    assert found == [None] * 19


def test_a_storm_is_one_warning_a_minute() -> None:
    meter = ElectionMeter()
    found = {at: meter.add(7 + at, at * 1_000) for at in range(150)}
    assert {at: count for at, count in found.items() if count is not None} == {
        3: 3,
        63: 60,
        123: 60,
    }


def test_what_happened_before_the_replica_was_in_sync_does_not_count() -> None:
    meter = ElectionMeter()
    assert meter.add(900, 0) is None
    assert meter.add(901, 1_000) is None
