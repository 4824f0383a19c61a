"""Reading a journal partition's bounds and single records, before the journal is followed."""

from __future__ import annotations

import time

from confluent_kafka import KafkaError, TopicPartition

from postjournal.adapters.kafka import metadata
from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.client import make_consumer, translated
from postjournal.config.settings import KafkaAccess
from postjournal.core.errors import JournalUnavailable

ANSWER_S = 3.0


class JournalProbe:
    """The `RecoveryJournal` port. Used by one thread; has a client of its own until `close`."""

    def __init__(self, kafka: KafkaAccess, topic: str, shard: int) -> None:
        """Connects in the background."""
        self._topic, self._shard = topic, shard
        self._consumer = make_consumer(kafka_settings.tail_consumer(kafka), report_ms=None)

    def bounds(self) -> tuple[int, int]:
        """The offset of the first record left, and the exclusive end.

        Raises `JournalUnavailable` when Kafka does not answer within some seconds.
        """
        return metadata.bounds(self._consumer, self._topic, self._shard, ANSWER_S)

    def value(self, offset: int) -> bytes | None:
        """The value of the record at `offset`, or None when the record has been deleted.

        Raises `JournalUnavailable` when Kafka does not answer within some seconds.
        """
        name = f"{self._topic}/{self._shard}"
        deadline = time.monotonic() + ANSWER_S
        with translated(name):
            self._consumer.assign([TopicPartition(self._topic, self._shard, offset)])
            while time.monotonic() < deadline:
                message = self._consumer.poll(0.1)
                if message is None:
                    continue
                error = message.error()
                if error is None:
                    return message.value() if message.offset() == offset else None
                if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                    return None
        raise JournalUnavailable(f"{name}: no record {offset} within {ANSWER_S:g} s")

    def close(self) -> None:
        self._consumer.close()
