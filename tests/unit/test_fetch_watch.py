"""Partitions whose records do not arrive."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from confluent_kafka import TopicPartition

from postjournal.adapters.kafka.engine import fetch_watch
from postjournal.adapters.kafka.engine.fetch_watch import CHECK_S, STALL_S, FetchWatch, Stall

SOURCE = TopicPartition("ledger.feed", 0)


class Clocked:
    """A watch with its clock and the topic's end under the test's control."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s, self.end = 100.0, None
        self.answers: Callable[[], int | None] = lambda: self.end
        monkeypatch.setattr(fetch_watch, "monotonic", lambda: self.now_s)
        self.has_found = threading.Event()
        self.watch = FetchWatch(lambda *_: self.answers(), self.has_found.set)

    end: int | None

    def check(self, after_s: float = CHECK_S) -> list[Stall | str]:
        """Let time pass, and compare once."""
        self.now_s += after_s
        self.has_found.clear()
        self.watch.check_if_due([SOURCE])
        assert self.has_found.wait(10)
        return list(self.watch.collect())

    def checks(self, seconds: float) -> list[Stall | str]:
        """What the last check finds after so much time."""
        found: list[Stall | str] = []
        for _ in range(int(seconds / CHECK_S) + 1):
            found = self.check()
        return found


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> Clocked:
    return Clocked(monkeypatch)


def test_a_partition_that_has_more_and_does_not_move_stands_still(clocked: Clocked) -> None:
    clocked.watch.on_positions({SOURCE.topic: 7})
    clocked.end = 9
    assert clocked.check() == []
    (stall,) = clocked.checks(STALL_S - CHECK_S)
    assert isinstance(stall, Stall)
    assert stall.is_proven
    assert "ends at 9, and nothing arrived from offset 7 on for 10 s" in stall.reason
    clocked.watch.on_positions({SOURCE.topic: 9})
    assert clocked.check() == [SOURCE.topic]
    assert clocked.check() == []


def test_one_that_cannot_be_reached_stands_still_without_proof(clocked: Clocked) -> None:
    clocked.watch.on_positions({SOURCE.topic: 7})
    (stall,) = clocked.checks(STALL_S)
    assert isinstance(stall, Stall)
    assert not stall.is_proven
    assert "cannot be reached" in stall.reason


def test_an_outage_proves_nothing(clocked: Clocked) -> None:
    clocked.watch.on_positions({SOURCE.topic: 7})
    clocked.checks(3 * STALL_S)
    clocked.end = 9  # Kafka answers again, and the client is about to fetch
    found = clocked.checks(STALL_S - CHECK_S - CHECK_S)
    assert not any(isinstance(one, Stall) for one in found)


def test_a_position_that_is_not_reported_yet_proves_nothing(clocked: Clocked) -> None:
    clocked.end = 9
    assert clocked.checks(3 * STALL_S) == []


def test_the_marker_of_a_transaction_at_the_end_is_passed_by_the_fetch(clocked: Clocked) -> None:
    """The last record is at 5, a marker at 6."""
    clocked.watch.delivered[SOURCE.topic] = 5
    clocked.watch.on_positions({SOURCE.topic: 7})
    clocked.end = 7
    assert clocked.checks(3 * STALL_S) == []


def test_an_idle_topic_that_gets_a_record_does_not_stand_still(clocked: Clocked) -> None:
    """librdkafka's report may be older than the record."""
    clocked.watch.on_positions({SOURCE.topic: 7})
    clocked.end = 7
    clocked.checks(10 * STALL_S)
    clocked.end = 8
    assert clocked.check() == []
    clocked.watch.on_positions({SOURCE.topic: 8})
    clocked.end = 9
    assert clocked.checks(STALL_S - CHECK_S) == []


def test_a_client_whose_queue_is_full_does_not_stand_still(clocked: Clocked) -> None:
    clocked.watch.on_positions({SOURCE.topic: 7})
    clocked.end = 1_000_000
    for offset in range(20):
        clocked.watch.delivered[SOURCE.topic] = offset
        assert clocked.check() == []


def test_what_is_not_fetched_is_not_watched(clocked: Clocked) -> None:
    clocked.watch.on_positions({SOURCE.topic: 7})
    clocked.end = 9
    clocked.checks(STALL_S)
    clocked.now_s += CHECK_S
    clocked.watch.check_if_due([])
    assert clocked.check() == []  # as if for the first time
