"""The gateway's client of Kafka over a fake of librdkafka's."""

from __future__ import annotations

import time
from typing import Any

import pytest
from confluent_kafka import Message

from postjournal.core.errors import JournalUnavailable
from services.producer import kafka_commands
from services.producer.kafka_commands import KafkaCommandLog
from services.producer.metrics import Metrics
from services.producer.ports import Appended, Record


class Deaf:
    """A producer; the first one made has lost all its brokers."""

    made = 0

    def __init__(self, settings: dict[str, Any]) -> None:
        type(self).made += 1
        self.number = type(self).made

    def poll(self, timeout_s: float) -> None:
        time.sleep(min(timeout_s, 0.01))

    def flush(self, timeout_s: float) -> None:
        pass

    def purge(self) -> None:
        pass


def test_a_client_that_no_broker_answers_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stayed away for ever after a restart of the broker, with Kafka there."""

    def partitions(producer: Deaf, topic: str, timeout_s: float) -> int:
        if producer.number == 1:
            raise JournalUnavailable("no broker answers")
        return 1

    monkeypatch.setattr(Deaf, "made", 0)
    monkeypatch.setattr(kafka_commands, "Producer", Deaf)
    monkeypatch.setattr(kafka_commands, "partition_count", partitions)
    monkeypatch.setattr(kafka_commands, "REPLACE_S", 0.05)
    log = KafkaCommandLog("b:1", "t", 1, Metrics(), lambda error: None)
    try:
        deadline = time.monotonic() + 20
        while log.trouble:
            assert time.monotonic() < deadline, log.trouble
            time.sleep(0.01)
    finally:
        log.close()
    assert Deaf.made == 2


class Prompt(Deaf):
    """Acknowledges at once, each shard's records in the order they come."""

    taken: list[tuple[int, bytes, bytes]]

    def produce(
        self, topic: str, value: bytes, key: bytes, partition: int, on_delivery: Any, **_: object
    ) -> None:
        offset = sum(shard == partition for shard, _, _ in self.taken)
        self.taken.append((partition, key, value))
        on_delivery(None, Message(topic=topic, partition=partition, offset=offset))


def test_each_record_goes_to_its_own_shard_with_its_own_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Prompt, "taken", [], raising=False)
    monkeypatch.setattr(kafka_commands, "Producer", Prompt)
    monkeypatch.setattr(kafka_commands, "partition_count", lambda *_: 3)
    log = KafkaCommandLog("b:1", "t", 3, Metrics(), lambda error: None)
    try:
        deadline = time.monotonic() + 20
        while log.trouble:
            assert time.monotonic() < deadline, log.trouble
            time.sleep(0.01)
        records = [Record(b"a", 2, b"1"), Record(b"b", 0, b"2"), Record(b"a", 2, b"3")]
        assert log.append(records) == [Appended(0), Appended(0), Appended(1)]
    finally:
        log.close()
    assert Prompt.taken == [(2, b"a", b"1"), (0, b"b", b"2"), (2, b"a", b"3")]
