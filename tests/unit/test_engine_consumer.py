"""The wait of an engine for records: what ends it, and what was taken meanwhile."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any

import pytest
from confluent_kafka import Message, TopicPartition

from postjournal.adapters.kafka.engine import consumer as engine_consumer
from postjournal.adapters.kafka.engine.consumer import EngineConsumer
from postjournal.adapters.process.wakeup import Wakeup
from postjournal.core.errors import BrokersLost

JOURNAL, FEED = "journal", "feed"


def record(topic: str, offset: int) -> Message:
    return Message(topic=topic, partition=0, offset=offset)


class Client:
    """librdkafka's consumer; `waiting` is what a poll with a timeout returns."""

    def __init__(self) -> None:
        self.fetched: deque[Message] = deque()
        self.waiting: SimpleQueue[Message | Exception] = SimpleQueue()
        self.calls: list[tuple[str, str, int]] = []
        self.waits = 0
        self.is_polled = self.closed = False

    def poll(self, timeout_s: float) -> Message | None:
        if timeout_s == 0:
            return self.fetched.popleft() if self.fetched else None
        self.waits += 1
        self.is_polled = True
        try:
            found = self.waiting.get(timeout=timeout_s)
        except Empty:
            return None
        finally:
            self.is_polled = False
        if isinstance(found, Exception):
            raise found
        return found

    def consume(self, count: int, timeout_s: float) -> list[Message]:
        assert timeout_s == 0
        return [self.fetched.popleft() for _ in range(min(count, len(self.fetched)))]

    def seek(self, position: TopicPartition) -> None:
        self.calls.append(("seek", position.topic, position.offset))

    def incremental_unassign(self, positions: list[TopicPartition]) -> None:
        self.calls.append(("unassign", positions[0].topic, positions[0].offset))

    def incremental_assign(self, positions: list[TopicPartition]) -> None:
        self.calls.append(("assign", positions[0].topic, positions[0].offset))

    def assign(self, positions: list[TopicPartition]) -> None:
        pass

    def pause(self, positions: list[TopicPartition]) -> None:
        pass

    resume = pause

    def close(self) -> None:
        self.closed = True


class Engine:
    """The owner of a consumer whose `FEED` is paused, with the client under it."""

    def __init__(self) -> None:
        self.client, self.wakeup = Client(), Wakeup()
        self.consumer = EngineConsumer({}, self.wakeup, lambda error: None, "waiter")
        self.feed = [TopicPartition(FEED, 0, 0)]
        self.consumer.assign([TopicPartition(JOURNAL, 0, 0), *self.feed], self.feed)

    def start_waiting(self) -> None:
        """Returns when the waiter waits, and not because of a message."""
        before = self.client.waits
        self.wakeup.set()
        assert self.consumer.poll(60) == []
        self.wait_until(lambda: self.client.waits > before)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def poll(self, *found: Message | Exception) -> list[Any]:
        """What the owner gets when the waiter finds the first of `found`, and the others follow."""
        first, *others = found
        self.client.fetched.extend(others)  # type: ignore[arg-type]
        self.client.waiting.put(first)
        return [(record.topic(), record.offset()) for record in self.consumer.poll(60)]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    client_of: list[Client] = []

    def make(config: dict[str, Any], on_error: object) -> Client:
        client_of.append(Client())
        return client_of[-1]

    monkeypatch.setattr(engine_consumer, "make_consumer", make)
    made = Engine()
    made.client = client_of[0]
    yield made
    made.consumer.close()
    assert made.client.closed


def test_what_is_there_is_returned_without_the_waiter(engine: Engine) -> None:
    engine.client.fetched.extend(record(JOURNAL, offset) for offset in range(3))
    assert [record.offset() for record in engine.consumer.poll(60)] == [0, 1, 2]
    assert engine.consumer.poll(0) == []
    assert engine.client.waits == 0


def test_a_record_ends_the_wait_and_those_behind_it_follow(engine: Engine) -> None:
    engine.start_waiting()
    found = engine.poll(record(JOURNAL, 0), record(JOURNAL, 1))
    assert found == [(JOURNAL, 0), (JOURNAL, 1)]
    assert engine.poll(record(JOURNAL, 2)) == [(JOURNAL, 2)]


def test_while_the_waiter_waits_the_owner_takes_nothing_else(engine: Engine) -> None:
    """The waiter may hold a record that comes before it."""
    engine.start_waiting()
    engine.client.fetched.append(record(JOURNAL, 1))
    assert engine.consumer.poll(0) == []
    assert engine.poll(record(JOURNAL, 0)) == [(JOURNAL, 0), (JOURNAL, 1)]


def test_every_call_ends_the_waiters_poll_first(engine: Engine) -> None:
    """confluent-kafka lets no other thread call a consumer that polls."""
    calls: list[Callable[[], object]] = [
        lambda: engine.consumer.seek(TopicPartition(JOURNAL, 0, 40)),
        lambda: engine.consumer.reassign(TopicPartition(JOURNAL, 0, 40)),
        lambda: engine.consumer.assign(engine.feed, engine.feed),
        lambda: engine.consumer.pause(engine.feed),
        lambda: engine.consumer.resume(engine.feed),
        lambda: engine.consumer.client,
    ]
    for call in calls:
        engine.start_waiting()
        call()
        assert not engine.client.is_polled
    assert engine.client.calls


def test_a_record_taken_before_a_seek_is_dropped(engine: Engine) -> None:
    engine.start_waiting()
    engine.client.waiting.put(record(JOURNAL, 7))
    engine.wait_until(lambda: not engine.client.is_polled)
    engine.consumer.seek(TopicPartition(JOURNAL, 0, 40))
    assert engine.consumer.poll(0) == []


def test_a_seek_leaves_other_topics_alone(engine: Engine) -> None:
    engine.start_waiting()
    engine.client.waiting.put(record(JOURNAL, 7))
    engine.wait_until(lambda: not engine.client.is_polled)
    engine.consumer.seek(TopicPartition(FEED, 0, 40))
    assert [found.offset() for found in engine.consumer.poll(0)] == [7]


def test_a_record_taken_before_a_pause_is_read_again(engine: Engine) -> None:
    engine.start_waiting()
    engine.client.waiting.put(record(FEED, 7))
    engine.wait_until(lambda: not engine.client.is_polled)
    engine.consumer.pause(engine.feed)
    assert engine.consumer.poll(0) == []
    assert engine.client.calls == [("seek", FEED, 7)]


def test_what_the_waiter_raises_is_raised_to_the_owner(engine: Engine) -> None:
    with pytest.raises(BrokersLost):
        engine.poll(BrokersLost("all brokers"))
    assert engine.poll(record(JOURNAL, 0)) == [(JOURNAL, 0)]


def test_a_wakeup_before_the_wait_is_not_lost() -> None:
    wakeup = Wakeup()
    wakeup.set()
    wakeup.set()
    began = time.monotonic()
    wakeup.wait(60)
    wakeup.wait(0.01)
    assert 0.01 <= time.monotonic() - began < 30
