"""Looking at a journal partition from outside, before it is followed."""

from __future__ import annotations

import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.metadata import bounds
from postjournal.core.errors import JournalUnavailable

ANSWER_S = 3.0


class JournalProbe:
    """See `RecoveryJournal`. Used by one thread; has a client of its own until `close`."""

    def __init__(self, bootstrap: str, topic: str, shard: int) -> None:
        """Connects in the background."""
        self._topic, self._shard = topic, shard
        settings = kafka_settings.tail_consumer(bootstrap) | {"log_level": 0}
        self._consumer = Consumer(settings)

    def bounds(self) -> tuple[int, int]:
        """The offset of the first record that is left, and that after the last."""
        return bounds(self._consumer, self._topic, self._shard, ANSWER_S)

    def value(self, offset: int) -> bytes | None:
        """The record at `offset`, or None when it has been deleted."""
        place = TopicPartition(self._topic, self._shard, offset)
        deadline = time.monotonic() + ANSWER_S
        try:
            self._consumer.assign([place])
            while time.monotonic() < deadline:
                message = self._consumer.poll(0.1)
                if message is None:
                    continue
                error = message.error()
                if error is None:
                    return message.value() if message.offset() == offset else None
                if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                    return None
        except KafkaException as error:
            raise JournalUnavailable(f"{self._topic}/{self._shard}: {error}") from error
        raise JournalUnavailable(f"{self._topic}/{self._shard}: record {offset} does not come")

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()
