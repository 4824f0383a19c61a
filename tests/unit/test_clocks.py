"""Clocks that differ are logged, late records are not."""

from __future__ import annotations

import pytest

from services.coordinator.clocks import ClockWatch


def watch(ahead_ms: list[int], started_ms: int = 0) -> ClockWatch:
    """One record a second."""
    made = ClockWatch()
    for number, ahead in enumerate(ahead_ms):
        now_ms = started_ms + 1_000 * number
        made.add("r1", now_ms + ahead, now_ms)
    return made


@pytest.mark.parametrize("ahead_ms", [6_000, -6_000])
def test_another_clock_is_logged_once(ahead_ms: int, caplog: pytest.LogCaptureFixture) -> None:
    watch([ahead_ms] * 50)
    assert len(caplog.records) == 1
    assert f"r1 differs from this process's by {ahead_ms / 1000:+.1f} s" in caplog.text


def test_records_that_arrive_late_are_no_other_clock(caplog: pytest.LogCaptureFixture) -> None:
    watch([-3, *[-60_000] * 6, -2, *[-4_000] * 3] * 5)
    assert not caplog.records


def test_a_clock_that_is_set_right_and_goes_wrong_again_is_logged_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watch([3_000] * 11 + [0] * 11 + [3_000] * 11)
    assert len(caplog.records) == 2
