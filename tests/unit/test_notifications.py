"""Notice of records: a thread sleeps until its consumer has something, and never in vain."""

from __future__ import annotations

import time
from collections.abc import Iterator

import confluent_kafka
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from postjournal.adapters.kafka.notifications import notify
from postjournal.adapters.process.wakeup import Wakeup

TOPIC = "journal"
LONG_S = 60.0


@pytest.fixture
def producer() -> Iterator[Producer]:
    """Of a cluster within this process."""
    made = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    yield made
    made.close()


@pytest.fixture
def consumer(producer: Producer) -> Iterator[Consumer]:
    [broker] = producer.list_topics(TOPIC, timeout=20).brokers.values()
    made = Consumer(
        {"bootstrap.servers": f"{broker.host}:{broker.port}", "group.id": "g", "log_level": 0}
    )
    made.assign([TopicPartition(TOPIC, 0, 0)])
    yield made
    made.close()


def produce(producer: Producer, *values: bytes) -> None:
    for value in values:
        producer.produce(TOPIC, value, partition=0)
    assert producer.flush(20) == 0


def consume(consumer: Consumer) -> list[bytes | None]:
    return [message.value() for message in consumer.consume(100, 0)]


def read(consumer: Consumer, wakeup: Wakeup, count: int) -> list[bytes | None]:
    """`count` values, sleeping whenever there is none."""
    found: list[bytes | None] = []
    deadline = time.monotonic() + LONG_S
    while len(found) < count:
        assert time.monotonic() < deadline, "slept through a record"
        values = consume(consumer)
        if not values:
            wakeup.wait(LONG_S)
        found += values
    return found


def test_a_record_ends_the_sleep_each_time(producer: Producer, consumer: Consumer) -> None:
    wakeup = Wakeup()
    assert notify(consumer, wakeup.descriptor)
    for number in range(20):
        produce(producer, b"%d" % number)
        assert read(consumer, wakeup, 1) == [b"%d" % number]


def test_what_was_there_before_is_found_without_a_notice(
    producer: Producer, consumer: Consumer
) -> None:
    produce(producer, b"a", b"b")
    before = consumer.consume(1, 20)
    wakeup = Wakeup()
    assert notify(consumer, wakeup.descriptor)
    assert [message.value() for message in before] + read(consumer, wakeup, 1) == [b"a", b"b"]


def test_an_unknown_release_is_not_touched(
    monkeypatch: pytest.MonkeyPatch, consumer: Consumer
) -> None:
    monkeypatch.setattr(confluent_kafka, "version", lambda: "2.17.0")
    assert not notify(consumer, Wakeup().descriptor)


def test_a_wakeup_before_the_wait_is_not_lost() -> None:
    wakeup = Wakeup()
    wakeup.set()
    wakeup.set()
    began = time.monotonic()
    wakeup.wait(LONG_S)
    wakeup.wait(0.01)
    assert 0.01 <= time.monotonic() - began < LONG_S / 2


def test_a_wakeup_that_nobody_awaits_can_be_set_any_number_of_times() -> None:
    wakeup = Wakeup()
    for _ in range(100_000):  # a pipe holds 65,536 bytes
        wakeup.set()
    wakeup.wait(LONG_S)
