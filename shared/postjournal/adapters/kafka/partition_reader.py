"""Reading one partition from end to end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.core.errors import JournalUnavailable, RecordsMissing

STALLED_S = 30.0
CHUNK_RECORDS = 4_000


class Chunk(NamedTuple):
    """Consecutive records of a partition, by column: columns compare at the speed of C."""

    offsets: list[int]
    keys: list[bytes | None]
    values: list[bytes]


@dataclass(frozen=True)
class KafkaPartition:
    """See `Partition`."""

    bootstrap: str
    topic: str
    number: int
    first: int
    end: int

    def chunks(self, start: int) -> Iterator[Chunk]:
        """See `Partition`. Raises `JournalUnavailable` and `RecordsMissing`."""
        for records in self.messages(start):
            yield _chunk(records, self.end)

    def messages(self, start: int) -> Iterator[list[Message]]:
        """As `chunks`, but as they come from Kafka; some may be from after the end."""
        if start >= self.end:
            return
        consumer = Consumer(kafka_settings.audit_consumer(self.bootstrap) | {"log_level": 2})
        try:
            consumer.assign([TopicPartition(self.topic, self.number, start)])
            yield from self._read(consumer, start)
        except KafkaException as error:
            raise JournalUnavailable(f"{self._place}: {error.args[0].str()}") from error
        finally:
            consumer.close()

    def _read(self, consumer: Consumer, start: int) -> Iterator[list[Message]]:
        next_offset, give_up = start, time.monotonic() + STALLED_S
        while next_offset < self.end:
            messages = self._poll(consumer, self.end - next_offset)
            records = [message for message in messages if message.error() is None]
            if records:
                next_offset, give_up = _offset(records[-1]) + 1, time.monotonic() + STALLED_S
                yield records
            if len(records) < len(messages) and self._is_over(messages):
                return
            if time.monotonic() > give_up:
                raise JournalUnavailable(
                    f"{self._place} cannot be read beyond offset {next_offset}: Kafka has not "
                    f"answered for {STALLED_S:g} s"
                )

    def _poll(self, consumer: Consumer, left: int) -> list[Message]:
        """`consume` alone would wait until it has as many as were asked for."""
        first = consumer.poll(0.5)
        if first is None:
            return []
        return [first, *consumer.consume(min(CHUNK_RECORDS, left), 0)]

    def _is_over(self, messages: Sequence[Message]) -> bool:
        """Whether the broker says that nothing follows; raises when it says anything else."""
        errors = [error for message in messages if (error := message.error()) is not None]
        for error in errors:
            if error.code() in (KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET):
                raise RecordsMissing(
                    f"records of {self._place} were deleted while they were being read; try again"
                )
        return all(error.code() == KafkaError._PARTITION_EOF for error in errors)

    @property
    def _place(self) -> str:
        return f"{self.topic}/{self.number}"


def _offset(message: Message) -> int:
    offset = message.offset()
    assert offset is not None
    return offset


def _chunk(messages: list[Message], end: int) -> Chunk:
    while _offset(messages[-1]) >= end and len(messages) > 1:
        messages.pop()
    if _offset(messages[-1]) >= end:
        return Chunk([], [], [])
    return Chunk(
        [_offset(message) for message in messages],
        [message.key() for message in messages],
        [message.value() or b"" for message in messages],
    )
