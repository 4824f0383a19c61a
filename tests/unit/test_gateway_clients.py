"""The gateway's command log on a fake producer of librdkafka."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Message

from postjournal.adapters.kafka import client as kafka_client
from postjournal.adapters.kafka import metadata
from postjournal.config.settings import KafkaAccess
from postjournal.core.errors import JournalUnavailable
from services.producer import kafka_commands
from services.producer.kafka_commands import KafkaCommandLog
from services.producer.metrics import Metrics
from services.producer.ports import Appended, NotAppended, Record, Unknown


@contextmanager
def available_log(
    monkeypatch: pytest.MonkeyPatch, producer: type[LostProducer], shards: int = 1
) -> Iterator[KafkaCommandLog]:
    """A command log on `producer`, as soon as it accepts commands."""
    monkeypatch.setattr(kafka_client, "Producer", producer)
    log = KafkaCommandLog(KafkaAccess("b:1"), "t", shards, Metrics(), lambda error: None)
    try:
        deadline = time.monotonic() + 20
        while log.unavailable_reason:
            assert time.monotonic() < deadline, log.unavailable_reason
            time.sleep(0.01)
        yield log
    finally:
        log.close()


class LostProducer:
    """A producer; the first instance has lost all its brokers."""

    instances = 0

    def __init__(self, settings: dict[str, Any]) -> None:
        type(self).instances += 1
        self.number = type(self).instances

    def poll(self, timeout_s: float) -> None:
        time.sleep(min(timeout_s, 0.01))

    def flush(self, timeout_s: float) -> None:
        pass

    def purge(self) -> None:
        pass

    def __len__(self) -> int:
        return 0


def test_a_client_that_no_broker_answers_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stayed unavailable forever after a restart of the broker, although Kafka was available."""

    def partitions(producer: LostProducer, topic: str, timeout_s: float) -> int:
        if producer.number == 1:
            raise JournalUnavailable("no broker answers")
        return 1

    monkeypatch.setattr(LostProducer, "instances", 0)
    monkeypatch.setattr(metadata, "partition_count", partitions)
    monkeypatch.setattr(kafka_commands, "RENEW_S", 0.05)
    with available_log(monkeypatch, LostProducer):
        assert LostProducer.instances == 2


class EndedProducer(LostProducer):
    """The first instance is ended by a fatal error, which confluent-kafka raises once."""

    has_raised = False

    def poll(self, timeout_s: float) -> None:
        if self.number == 1 and not self.has_raised:
            self.has_raised = True
            raise KafkaException(KafkaError(KafkaError._FATAL))
        super().poll(timeout_s)

    def produce(self, *_: object, on_delivery: Any, **__: object) -> None:
        if self.number == 1:
            raise KafkaException(KafkaError(KafkaError._FATAL))
        on_delivery(None, Message(topic="t", partition=0, offset=7))


def test_a_client_that_has_ended_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EndedProducer, "instances", 0)
    monkeypatch.setattr(metadata, "partition_count", lambda *_: 1)
    with available_log(monkeypatch, EndedProducer) as log:
        deadline = time.monotonic() + 20
        while log.append([Record(b"a", 0, b"1")]) != [Appended(7)]:
            assert time.monotonic() < deadline
            time.sleep(0.01)


class AcknowledgingProducer(LostProducer):
    """Acknowledges each record at once."""

    produced: list[tuple[int, bytes, bytes]]

    def produce(
        self, topic: str, value: bytes, key: bytes, partition: int, on_delivery: Any, **_: object
    ) -> None:
        offset = sum(shard == partition for shard, _, _ in self.produced)
        self.produced.append((partition, key, value))
        on_delivery(None, Message(topic=topic, partition=partition, offset=offset))


def test_each_record_goes_to_its_own_shard_with_its_own_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(AcknowledgingProducer, "produced", [], raising=False)
    monkeypatch.setattr(metadata, "partition_count", lambda *_: 3)
    with available_log(monkeypatch, AcknowledgingProducer, shards=3) as log:
        records = [Record(b"a", 2, b"1"), Record(b"b", 0, b"2"), Record(b"a", 2, b"3")]
        assert log.append(records) == [Appended(0), Appended(0), Appended(1)]
    assert AcknowledgingProducer.produced == [(2, b"a", b"1"), (0, b"b", b"2"), (2, b"a", b"3")]


class RefusingProducer(LostProducer):
    """Reports each record as failed with the test's error."""

    error: int

    def produce(self, *_: object, on_delivery: Any, **__: object) -> None:
        on_delivery(KafkaError(self.error), Message(topic="t", partition=0, offset=-1))


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (KafkaError.MSG_SIZE_TOO_LARGE, NotAppended),
        (KafkaError._PURGE_QUEUE, Unknown),
        (KafkaError._MSG_TIMED_OUT, Unknown),
        (KafkaError._PURGE_INFLIGHT, Unknown),
    ],
)
def test_only_a_record_that_was_never_sent_is_reported_as_not_appended(
    monkeypatch: pytest.MonkeyPatch, error: int, outcome: type
) -> None:
    monkeypatch.setattr(RefusingProducer, "error", error, raising=False)
    monkeypatch.setattr(metadata, "partition_count", lambda *_: 1)
    with available_log(monkeypatch, RefusingProducer) as log:
        (found,) = log.append([Record(b"a", 0, b"1")])
    assert type(found) is outcome
