"""Reading partitions from outside the engine, from end to end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from postjournal.adapters.kafka import metadata
from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.client import TopicRecord, make_consumer, to_record, translated
from postjournal.config.settings import KafkaAccess
from postjournal.core.errors import ConfigurationError, JournalUnavailable, RecordsMissing

ANSWER_S = 10.0
STALLED_S = 30.0
CHUNK_RECORDS = 4_000


class Chunk(NamedTuple):
    """Consecutive records of a partition, by column: columns compare at the speed of C."""

    offsets: list[int]
    keys: list[bytes | None]
    values: list[bytes]


@dataclass(frozen=True)
class KafkaPartition:
    """The records of partition `number` with offsets from `first` up to, excluding, `end`."""

    kafka: KafkaAccess
    topic: str
    number: int
    first: int
    end: int

    def chunks(self, start: int) -> Iterator[Chunk]:
        """The records from offset `start` on, with a client of its own.

        Raises `JournalUnavailable`, and `RecordsMissing` when they are deleted meanwhile.
        """
        for messages in self._messages(start):
            yield _chunk(messages, self.end)

    def records(self, start: int) -> Iterator[TopicRecord]:
        """As `chunks`, but record by record, with timestamps and headers."""
        for messages in self._messages(start):
            for message in messages:
                record = to_record(message, headers=True)
                if record.offset < self.end:
                    yield record

    def _messages(self, start: int) -> Iterator[list[Message]]:
        """As they come from Kafka; some may be from after the end."""
        if start >= self.end:
            return
        consumer = make_consumer(kafka_settings.audit_consumer(self.kafka), report_ms=None)
        try:
            with translated(self._name):
                consumer.assign([TopicPartition(self.topic, self.number, start)])
                yield from self._read(consumer, start)
        finally:
            consumer.close()

    def _read(self, consumer: Consumer, start: int) -> Iterator[list[Message]]:
        next_offset, deadline = start, time.monotonic() + STALLED_S
        while next_offset < self.end:
            messages = self._poll(consumer, self.end - next_offset)
            records = [message for message in messages if message.error() is None]
            if records:
                next_offset, deadline = _offset(records[-1]) + 1, time.monotonic() + STALLED_S
                yield records
            if len(records) < len(messages) and self._is_over(messages):
                return
            if time.monotonic() > deadline:
                raise JournalUnavailable(
                    f"{self._name} cannot be read beyond offset {next_offset}: no answer from "
                    f"Kafka for {STALLED_S:g} s"
                )

    def _poll(self, consumer: Consumer, left: int) -> list[Message]:
        """`consume` alone would wait until it has as many records as it may return."""
        first = consumer.poll(0.5)
        if first is None:
            return []
        return [first, *consumer.consume(min(CHUNK_RECORDS, left), 0)]

    def _is_over(self, messages: Sequence[Message]) -> bool:
        """Whether the broker has reported that no record follows. Raises `RecordsMissing`."""
        errors = [error for message in messages if (error := message.error()) is not None]
        for error in errors:
            if error.code() in (KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET):
                raise RecordsMissing(
                    f"records of {self._name} were deleted while they were being read; try again"
                )
        return all(error.code() == KafkaError._PARTITION_EOF for error in errors)

    @property
    def _name(self) -> str:
        return f"{self.topic}/{self.number}"


class PartitionFinder:
    """Finds the partitions of a system's topics. Used by one thread; call `close`.

    All methods ask the broker, and raise `JournalUnavailable` when it does not answer in time.
    """

    def __init__(self, kafka: KafkaAccess) -> None:
        """Connects in the background."""
        self._kafka = kafka
        config = kafka_settings.audit_consumer(kafka)
        self._consumer = make_consumer(config, report_ms=None)

    def count(self, topic: str) -> int:
        """How many partitions `topic` has. Raises `ConfigurationError` when it does not exist."""
        found = metadata.partition_count(self._consumer, topic, ANSWER_S)
        if found == 0:
            raise ConfigurationError(
                f"topic {topic} does not exist at {self._kafka.bootstrap}: check the namespace"
            )
        return found

    def partition(self, topic: str, number: int) -> KafkaPartition:
        """All records that the partition holds now."""
        first, end = metadata.bounds(self._consumer, topic, number, ANSWER_S)
        return KafkaPartition(self._kafka, topic, number, first, end)

    def end(self, topic: str, number: int) -> int:
        """The partition's exclusive end now."""
        return metadata.bounds(self._consumer, topic, number, ANSWER_S)[1]

    def offset_at(self, partition: KafkaPartition, time_ms: int) -> int:
        """The offset of the first record that is not older than `time_ms`, else the end.

        `time_ms`: ms since the Unix epoch.
        """
        wanted = TopicPartition(partition.topic, partition.number, max(time_ms, 0))
        with translated(partition.topic):
            found = self._consumer.offsets_for_times([wanted], timeout=ANSWER_S)[0]
        return found.offset if found.offset >= 0 else partition.end

    def close(self) -> None:
        self._consumer.close()


class LiveReader:
    """Reads what is appended to some partitions from now on. Used by one thread at a time.

    `starts`: (topic, partition) → the offset of the first record that it reads.
    """

    def __init__(self, kafka: KafkaAccess, topics: Sequence[str], partitions: int) -> None:
        """Finds the ends of all `topics`. Raises `JournalUnavailable`."""
        config = kafka_settings.follower_consumer(kafka)
        self._consumer = make_consumer(config, report_ms=None)
        self._first: Message | None = None
        self.starts = {
            (topic, number): metadata.bounds(self._consumer, topic, number, ANSWER_S)[1]
            for topic in topics
            for number in range(partitions)
        }
        self._consumer.assign([TopicPartition(*place, at) for place, at in self.starts.items()])

    def wait(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` seconds for a record; True when there is one."""
        self._first = self._consumer.poll(timeout_s)
        return self._first is not None

    def read(self, limit: int) -> Iterator[tuple[str, TopicRecord]]:
        """After `wait` was true: (topic, record), at most `limit`, without waiting for more."""
        assert self._first is not None
        for message in (self._first, *self._consumer.consume(limit - 1, 0)):
            if message.error() is None:
                yield message.topic() or "", to_record(message)

    def close(self) -> None:
        self._consumer.close()


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
