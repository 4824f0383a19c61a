"""Following a topic on a real Kafka, with a client that gets lost."""

from __future__ import annotations

import time
import uuid

import pytest
from confluent_kafka import Consumer, Message

from postjournal.adapters import topic_reader
from postjournal.adapters.topic_reader import TopicReader, end
from postjournal.core.errors import BrokersLost
from tests.integration.services_kit import make_topics, publish

pytestmark = pytest.mark.kafka


class Losing(Consumer):
    """Loses its brokers when it is told to."""

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
            found += [message.value() for message in reader.poll(0.1)]
    return found


def test_a_lost_client_is_replaced_and_nothing_is_missed(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Losing, "made", [], raising=False)
    monkeypatch.setattr(topic_reader, "Consumer", Losing)
    namespace = f"test-{uuid.uuid4().hex[:8]}"
    make_topics(kafka, namespace)
    topic = f"{namespace}.status"
    reader = TopicReader(kafka, topic, 1, end)
    try:
        publish(kafka, topic, [b"before"])
        while not reader.open():
            pass
        publish(kafka, topic, [b"1", b"2"])
        assert values(reader, 2) == [b"1", b"2"]
        Losing.made[0].is_lost = True
        publish(kafka, topic, [b"3", b"4"])
        assert reader.poll(0) == []
        assert not reader.is_open
        assert values(reader, 2) == [b"3", b"4"]
        assert reader.is_caught_up
        assert len(Losing.made) == 2
    finally:
        reader.close()
