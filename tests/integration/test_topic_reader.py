"""Reading a topic on a real Kafka, with a client that loses its brokers."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Message

from postjournal.adapters.kafka import client as kafka_client
from postjournal.adapters.kafka.topic_reader import TopicReader, end
from postjournal.config.settings import KafkaAccess
from postjournal.core.errors import BrokersLost
from tests.support.topics import make_topics, publish

pytestmark = pytest.mark.kafka


class Losing(Consumer):
    """Loses its brokers when `is_lost` is set."""

    made: list[Losing]

    def __init__(self, settings: dict[str, object]) -> None:
        super().__init__(settings)
        self.is_lost = False
        self.made.append(self)

    def poll(self, timeout: float = -1) -> Message | None:
        if self.is_lost:
            raise BrokersLost("all brokers")
        return super().poll(timeout)


def values(reader: TopicReader, count: int) -> list[bytes | None]:
    found: list[bytes | None] = []
    deadline = time.monotonic() + 60
    while len(found) < count:
        assert time.monotonic() < deadline, found
        if reader.open():
            found += [record.value for record in reader.poll(0.1)]
    return found


@pytest.fixture
def topic(kafka: str) -> str:
    namespace = f"test-{uuid.uuid4().hex[:8]}"
    make_topics(kafka, namespace)
    return f"{namespace}.status"


@pytest.fixture
def reader(kafka: str, topic: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TopicReader]:
    """Open, from the end on."""
    monkeypatch.setattr(Losing, "made", [], raising=False)
    monkeypatch.setattr(kafka_client, "Consumer", Losing)
    publish(kafka, topic, [b"before"])
    reader = TopicReader(KafkaAccess(kafka), topic, 1, end)
    open_again(reader)
    yield reader
    reader.close()


def open_again(reader: TopicReader) -> None:
    deadline = time.monotonic() + 60
    while not reader.open():
        assert time.monotonic() < deadline


def lose_client(reader: TopicReader) -> None:
    Losing.made[-1].is_lost = True
    assert reader.poll(0) == []
    assert not reader.is_open


@pytest.mark.parametrize("known", [[], [b"1", b"2"]])
def test_a_lost_client_is_replaced_and_nothing_is_missed(
    kafka: str, topic: str, reader: TopicReader, known: list[bytes]
) -> None:
    publish(kafka, topic, known)
    assert values(reader, len(known)) == known
    publish(kafka, topic, [b"3", b"4"])
    lose_client(reader)
    assert values(reader, 2) == [b"3", b"4"]
    assert reader.is_caught_up
    assert len(Losing.made) == 2


def test_a_pause_outlasts_a_lost_client(kafka: str, topic: str, reader: TopicReader) -> None:
    reader.pause()
    publish(kafka, topic, [b"1", b"2"])
    lose_client(reader)
    open_again(reader)
    publish(kafka, topic, [b"3"])
    assert reader.poll(2.0) == []
    reader.skip_to_end()
    publish(kafka, topic, [b"4"])
    assert values(reader, 1) == [b"4"]
