"""A subscriber's positions as the committed offsets of its consumer group."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from threading import Thread

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from postjournal.adapters.kafka.client import translated
from postjournal.core.errors import JournalUnavailable
from postjournal.core.records import UNREADABLE
from postjournal.core.sequence import Position

log = logging.getLogger(__name__)

PARTITION_LOST = (
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError._ASSIGNMENT_LOST,
    KafkaError._FENCED,
)
"""Errors of a commit for a partition that the group has given to another member."""


class _Metadata(msgspec.Struct):
    last_seq: int


class _Commit:
    """A commit in a thread of its own, since librdkafka's takes minutes when a broker hangs."""

    def __init__(self, consumer: Consumer, offsets: list[TopicPartition]) -> None:
        self._consumer, self._offsets = consumer, offsets
        self.errors: list[KafkaError] = []
        self._thread = Thread(target=self._run, name="commit", daemon=True)
        self._thread.start()

    def is_done_within(self, timeout_s: float) -> bool:
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            answers = self._consumer.commit(offsets=self._offsets, asynchronous=False)
        except KafkaException as error:
            self.errors = [error.args[0]]
        else:
            self.errors = [answer.error for answer in answers or () if answer.error is not None]


class GroupPositions:
    """A `PositionStore` in Kafka; the last sequence is in the metadata of the committed offset."""

    def __init__(self, consumer: Consumer, topic: str, timeout_s: float) -> None:
        """`consumer` is a member of the group; `timeout_s`: of each request, seconds."""
        self._consumer, self._topic, self._timeout_s = consumer, topic, timeout_s
        self._commit: _Commit | None = None

    def load(self, partition: int) -> Position | None:
        """The committed position, or None when there is none. Raises `JournalUnavailable`."""
        wanted = [TopicPartition(self._topic, partition)]
        with translated(self._topic):
            found = self._consumer.committed(wanted, timeout=self._timeout_s)[0]
        if found.error is not None:
            raise JournalUnavailable(f"{self._topic}/{partition}: {found.error.str()}")
        if found.offset < 0:
            return None
        return Position(found.offset, _last_seq(found.metadata))

    def save(self, positions: Mapping[int, Position]) -> None:
        """Commit the positions (partition → position) and wait for the answer.

        Raises `JournalUnavailable`: try again, or go on, since the next commit covers these. A
        partition that the group has meanwhile given to another member keeps its old position.
        """
        self._wait()  # commits must not overtake each other
        offsets = [
            TopicPartition(self._topic, partition, position.next_offset, _metadata(position))
            for partition, position in positions.items()
        ]
        self._commit = _Commit(self._consumer, offsets)
        for error in self._wait():
            self._on_error(error)

    def is_idle(self) -> bool:
        """False when a commit has not been answered for some seconds.

        Closing the consumer would then never end: each of the two would wait for the other.
        """
        return self._commit is None or self._commit.is_done_within(self._timeout_s)

    def _wait(self) -> list[KafkaError]:
        if self._commit is None:
            return []
        if not self._commit.is_done_within(self._timeout_s):
            raise JournalUnavailable(f"{self._topic}: position not committed: no answer in time")
        errors, self._commit = self._commit.errors, None
        return errors

    def _on_error(self, error: KafkaError) -> None:
        if error.code() not in PARTITION_LOST:
            raise JournalUnavailable(f"{self._topic}: position not committed: {error.str()}")
        log.warning(
            "%s: position not committed: the partition now belongs to another group member, which "
            "continues from the previous position: %s",
            self._topic,
            error.str(),
        )


def _metadata(position: Position) -> str:
    assert position.last_seq is not None
    return msgspec.json.encode(_Metadata(position.last_seq)).decode()


def _last_seq(metadata: str | None) -> int | None:
    try:
        return msgspec.json.decode(metadata or "", type=_Metadata).last_seq
    except UNREADABLE:
        return None
