"""Appending to the control and status topics, one acknowledged record at a time."""

from __future__ import annotations

from threading import Event, Lock

import msgspec

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.producer import DeliveryFailed, RecordProducer
from postjournal.cluster.status import ControlRecord, StatusRecord
from postjournal.config.settings import KafkaAccess
from postjournal.core.errors import JournalUnavailable

ANSWER_S = 5.5
"""A little more than the message.timeout.ms of `settings.control_producer`."""


class ControlLog:
    """Safe to use from many threads."""

    def __init__(self, kafka: KafkaAccess, topic: str) -> None:
        """Connects in the background, so make it after any fork."""
        self._topic = topic
        self._config = kafka_settings.control_producer(kafka)
        self._lock = Lock()
        self._producer = RecordProducer(self._config)

    def append(self, record: ControlRecord | StatusRecord) -> None:
        """Append `record` to the partition of its shard and wait for the acknowledgement.

        Raises `JournalUnavailable` after 5.5 s at most; Kafka may have the record even so.
        """
        producer = self._producer
        try:
            self._append(producer, record)
        except JournalUnavailable:
            self._replace(producer)
            raise

    def _replace(self, failed: RecordProducer) -> None:
        """It may have lost its brokers for good (see `client.watched`); a new one costs little."""
        with self._lock:
            if self._producer is failed:
                self._producer = RecordProducer(self._config)

    def _append(self, producer: RecordProducer, record: ControlRecord | StatusRecord) -> None:
        delivery = _Delivery()
        producer.send(
            self._topic,
            msgspec.json.encode(record),
            partition=record.shard,
            on_delivery=delivery.on_report,
        )
        producer.flush(ANSWER_S)
        if not delivery.is_reported.is_set():
            raise JournalUnavailable(f"{self._topic}: no answer from Kafka within {ANSWER_S:g} s")
        if delivery.failure is not None:
            raise JournalUnavailable(f"{self._topic}: {delivery.failure.reason}")

    def close(self) -> None:
        """Records that are not sent yet are dropped."""
        self._producer.drain()


class _Delivery:
    def __init__(self) -> None:
        self.is_reported = Event()
        self.failure: DeliveryFailed | None = None

    def on_report(self, offset: int, failure: DeliveryFailed | None) -> None:
        del offset
        self.failure = failure
        self.is_reported.set()
