"""The loop that follows a topic, over a fake topic."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from postjournal.adapters.kafka import follower as follower_module
from postjournal.adapters.kafka.client import TopicRecord
from postjournal.adapters.kafka.follower import Follower
from postjournal.core.errors import ConfigurationError, ShardCountMismatch

RECORD = TopicRecord(0, 0, None, b"value", 1_000)


class FakeTopic:
    def __init__(self) -> None:
        self.is_open = self.is_caught_up = self.is_closed = False
        self.unavailable_reason: str | None = None
        self.error: ShardCountMismatch | None = None
        self.batches: list[list[TopicRecord]] = []

    def open(self) -> bool:
        if self.error is not None:
            raise self.error
        return self.is_open

    def poll(self, timeout_s: float) -> list[TopicRecord]:
        time.sleep(min(timeout_s, 0.001))
        return self.batches.pop(0) if self.batches else []

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def topic() -> FakeTopic:
    return FakeTopic()


def never(error: ConfigurationError) -> None:
    raise AssertionError(error)


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_apply_is_called_after_every_poll_of_an_open_topic(topic: FakeTopic) -> None:
    applied: list[list[TopicRecord]] = []
    follower = Follower("status", topic, applied.append, needs_history=False)
    topic.batches = [[RECORD]]
    follower.step(0)
    assert applied == []
    topic.is_open = True
    follower.step(0)
    follower.step(0)
    assert applied == [[RECORD], []]


def test_a_follower_that_needs_no_history_is_available_once_the_topic_is_open(
    topic: FakeTopic,
) -> None:
    follower = Follower("status", topic, len, needs_history=False)
    assert follower.unavailable_reason == "the status topic is not read yet"
    topic.unavailable_reason = "no broker answers"
    assert follower.unavailable_reason == "no broker answers"
    topic.is_open = True
    assert follower.unavailable_reason is None


def test_a_follower_that_needs_history_is_available_once_it_has_caught_up(
    topic: FakeTopic,
) -> None:
    follower = Follower("status", topic, len, needs_history=True)
    topic.is_open = True
    assert follower.unavailable_reason == "the status topic is not read yet"
    topic.is_caught_up = True
    assert follower.unavailable_reason is None


def test_a_topic_with_another_number_of_partitions_halts_and_is_closed(topic: FakeTopic) -> None:
    halted: list[ConfigurationError] = []
    topic.error = ShardCountMismatch("3 instead of 1")
    follower = Follower("status", topic, len, needs_history=False)
    follower.start(halted.append)
    eventually(lambda: halted)
    assert topic.is_closed
    follower.close()


def test_a_closed_follower_closes_its_topic(topic: FakeTopic) -> None:
    topic.is_open = True
    follower = Follower("status", topic, len, needs_history=False)
    follower.start(never)
    follower.close()
    assert topic.is_closed


def test_a_follower_in_the_callers_thread_raises_and_closes_its_topic(topic: FakeTopic) -> None:
    topic.error = ShardCountMismatch("3 instead of 1")
    follower = Follower("status", topic, len, needs_history=True)
    with pytest.raises(ShardCountMismatch):
        follower.run(threading.Event())
    assert topic.is_closed


def test_a_follower_is_idle_since_its_last_turn(
    topic: FakeTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = {"s": 100.0}
    monkeypatch.setattr(follower_module, "monotonic", lambda: now["s"])
    follower = Follower("status", topic, len, needs_history=False)
    follower.step(0)
    now["s"] += 31.0
    assert follower.idle_s == 31.0
