"""The evidence as it lies in Kafka."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from postjournal.adapters import kafka_settings
from postjournal.adapters.object_store import ObjectStore
from postjournal.adapters.topic_metadata import bounds, partition_count
from postjournal.core.application import Application
from postjournal.core.errors import ConfigurationError, JournalUnavailable, RecordsMissing
from postjournal.status import ReplicaStatus, decode_status
from postjournal.verify.partition import Chunk, Partition
from postjournal.verify.replay import DEADLETTER
from postjournal.verify.replicas import Said
from postjournal.verify.shard import Evidence, Sink
from postjournal.verify.snapshots import Kept
from postjournal.verify.store import snapshots

ANSWER_S = 10.0
STALLED_S = 30.0
CHUNK_RECORDS = 4_000
LAST_STATUSES = 20_000
"""How far back the status topic is read, in records: it bounds what is kept of them."""


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


class Surveyor:
    """Finds what is to be audited and fixes the ends."""

    def __init__(
        self,
        bootstrap: str,
        namespace: str,
        application: Application[Any, Any, Any],
        store: ObjectStore | None = None,
    ) -> None:
        """Connects; call `close`. Without a store, snapshots are not looked at."""
        self._bootstrap, self._namespace = bootstrap, namespace
        self._application, self._store = application, store
        settings = kafka_settings.audit_consumer(bootstrap) | {"log_level": 2}
        self._consumer = Consumer(settings)

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()

    def shards(self) -> int:
        """How many shards the journal has. Raises `ConfigurationError`, `JournalUnavailable`."""
        topic = self._topic("journal")
        count = partition_count(self._consumer, topic, ANSWER_S)
        if count == 0:
            raise ConfigurationError(
                f"there is no topic {topic} at {self._bootstrap}: is the namespace right?"
            )
        return count

    def evidence(self, shard: int, shards: int) -> Evidence:
        """The order matters: see `Evidence`."""
        none: tuple[Sequence[Kept], Mapping[str, str]] = ((), {})
        kept, unreadable = snapshots(self._store, self._namespace, shard) if self._store else none
        said = self._said(shard)
        names = (*self._application.sinks, DEADLETTER)
        settled = {name: self._partition(name, shard).end for name in names}
        journal = self._partition("journal", shard)
        sources = [self._partition(name, shard) for name in self._application.sources]
        return Evidence(
            shard=shard,
            shards=shards,
            journal=journal,
            sources={source.topic: source for source in sources},
            sinks={name: Sink(self._partition(name, shard), settled[name]) for name in names},
            status_topic=self._topic("status"),
            said=said,
            kept=kept,
            unreadable=unreadable,
        )

    def _topic(self, name: str) -> str:
        return f"{self._namespace}.{name}"

    def _partition(self, name: str, shard: int) -> KafkaPartition:
        topic = self._topic(name)
        first, end = bounds(self._consumer, topic, shard, ANSWER_S)
        return KafkaPartition(self._bootstrap, topic, shard, first, end)

    def _said(self, shard: int) -> list[Said]:
        statuses: Partition = self._partition("status", shard)
        start = max(statuses.first, statuses.end - LAST_STATUSES)
        return [
            Said(offset, status)
            for chunk in statuses.chunks(start)
            for offset, value in zip(chunk.offsets, chunk.values, strict=True)
            if isinstance(status := decode_status(value), ReplicaStatus) and status.shard == shard
        ]
