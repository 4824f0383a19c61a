"""A subscriber's positions as the committed offsets of its consumer group."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from threading import Thread

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from postjournal.core.errors import JournalUnavailable
from postjournal.core.records import UNREADABLE
from postjournal.core.sequence import Position

log = logging.getLogger(__name__)

NOT_OURS_ANY_MORE = (
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError._ASSIGNMENT_LOST,
    KafkaError._FENCED,
)


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
            self.errors = [each.error for each in answers or () if each.error is not None]


class GroupPositions:
    """See `PositionStore`. The last sequence is in the metadata of the committed offset."""

    def __init__(self, consumer: Consumer, topic: str, timeout_s: float) -> None:
        """`consumer` is a member of the group; `timeout_s`: of each request, seconds."""
        self._consumer, self._topic, self._timeout_s = consumer, topic, timeout_s
        self._commit: _Commit | None = None

    def load(self, partition: int) -> Position | None:
        """Raises `JournalUnavailable`."""
        asked = [TopicPartition(self._topic, partition)]
        try:
            found = self._consumer.committed(asked, timeout=self._timeout_s)[0]
        except KafkaException as error:
            raise JournalUnavailable(f"{self._topic}: {error.args[0].str()}") from error
        if found.error is not None:
            raise JournalUnavailable(f"{self._topic}/{partition}: {found.error.str()}")
        if found.offset < 0:
            return None
        return Position(found.offset, _last_seq(found.metadata))

    def save(self, positions: Mapping[int, Position]) -> None:
        """Commit and wait for the answer. Raises `JournalUnavailable`: try again or go on.

        A partition that has meanwhile been given to another member keeps its old position.
        """
        self._wait()  # commits must not overtake each other
        offsets = [
            TopicPartition(self._topic, partition, place.next_offset, _metadata(place))
            for partition, place in positions.items()
        ]
        self._commit = _Commit(self._consumer, offsets)
        for error in self._wait():
            self._refused(error)

    def is_idle(self) -> bool:
        """False when a commit is still under way after some seconds: Kafka does not answer.

        Closing the consumer then would never end: each of the two would wait for the other.
        """
        return self._commit is None or self._commit.is_done_within(self._timeout_s)

    def _wait(self) -> list[KafkaError]:
        if self._commit is None:
            return []
        if not self._commit.is_done_within(self._timeout_s):
            raise JournalUnavailable(f"{self._topic}: position not committed: no answer in time")
        errors, self._commit = self._commit.errors, None
        return errors

    def _refused(self, error: KafkaError) -> None:
        if error.code() not in NOT_OURS_ANY_MORE:
            raise JournalUnavailable(f"{self._topic}: position not committed: {error.str()}")
        log.warning(
            "%s: position not committed, the partition has gone to another member, who reads "
            "from the position before: %s",
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
