"""Appending to the control and status topics, one record at a time, and knowing that it landed."""

from __future__ import annotations

from threading import Event, Lock

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.cluster.status import ControlRecord, StatusRecord
from postjournal.core.errors import JournalUnavailable

ANSWER_S = 5.5
"""A little more than kafka_settings.control_producer's message.timeout.ms."""


class ControlLog:
    """Safe to use from many threads."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        """Connects in the background, so make it after any fork."""
        self._topic = topic
        self._settings = kafka_settings.control_producer(bootstrap) | {"log_level": 0}
        self._lock = Lock()
        self._producer = Producer(self._settings)

    def append(self, record: ControlRecord | StatusRecord) -> None:
        """Returns when Kafka has the record. Raises `JournalUnavailable`; it may have it then."""
        producer = self._producer
        try:
            self._append(producer, record)
        except JournalUnavailable:
            self._replace(producer)
            raise

    def _replace(self, failed: Producer) -> None:
        """It may have lost its brokers for good (see `lost_brokers`); a new one costs little."""
        with self._lock:
            if self._producer is failed:
                self._producer = Producer(self._settings)

    def _append(self, producer: Producer, record: ControlRecord | StatusRecord) -> None:
        delivery = _Delivery()
        try:
            producer.produce(
                self._topic,
                msgspec.json.encode(record),
                partition=record.shard,
                on_delivery=delivery.on_report,
            )
        except (BufferError, KafkaException) as error:
            raise JournalUnavailable(f"{self._topic}: {error}") from error
        producer.flush(ANSWER_S)
        if not delivery.is_told.is_set():
            raise JournalUnavailable(f"{self._topic}: Kafka does not answer")
        if delivery.error is not None:
            raise JournalUnavailable(f"{self._topic}: {delivery.error.str()}")

    def close(self) -> None:
        """What is not sent yet is dropped."""
        self._producer.purge()
        self._producer.flush(0.1)


class _Delivery:
    def __init__(self) -> None:
        self.is_told = Event()
        self.error: KafkaError | None = None

    def on_report(self, error: KafkaError | None, message: Message) -> None:
        del message
        self.error = error
        self.is_told.set()
