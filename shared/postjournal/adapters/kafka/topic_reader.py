"""Reading all partitions of a topic from chosen offsets on, outside any consumer group."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.client import (
    TopicRecord,
    assign,
    make_consumer,
    report_again,
    to_record,
    translated,
    wake,
)
from postjournal.adapters.kafka.metadata import bounds, check_partition_count, partition_count
from postjournal.adapters.outage import Outage
from postjournal.config.settings import KafkaAccess
from postjournal.core.errors import BrokersLost, JournalUnavailable

log = logging.getLogger(__name__)

Start = Callable[[int, int], int]
"""From a partition's first offset and its exclusive end to the offset to begin with."""

METADATA_TIMEOUT_S = 1.0
WAKE_TIMEOUT_S = 0.05
RETRY_S = 0.1

FETCH_OVER_S = 5.0
"""A failed fetch that has not failed again for this long works: librdkafka repeats it every 20 ms,
or every second for want of rights."""

REPORT_AGAIN_S = 1.0


def beginning(low: int, high: int) -> int:
    """Start with the oldest record that the topic still has."""
    del high
    return low


def end(low: int, high: int) -> int:
    """Start with what is appended after the topic was opened."""
    del low
    return high


def back(records: int) -> Start:
    """Start `records` records before each partition's end."""

    def start(low: int, high: int) -> int:
        return max(low, high - records)

    return start


class ConsumerOutage(Outage):
    """Whether Kafka is unavailable to a consumer of one topic, or refuses to return records.

    That a broker answers, or another partition is read, does not end the second.
    """

    def __init__(self, topic: str, timeout_s: float, log: logging.Logger) -> None:
        """`timeout_s`: how long a broker may take to answer, seconds."""
        super().__init__(f"topic {topic}", log)
        self._topic, self._timeout_s = topic, timeout_s
        self._fetch_failed_s = -FETCH_OVER_S
        self._reported_again_s = 0.0

    def on_error(self, error: KafkaError) -> None:
        """The client's `error_cb`: librdkafka reports when all brokers are down."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self.start("Kafka is unavailable")

    def on_fetch_error(self, error: KafkaError) -> None:
        """A consumer has returned an error instead of a record."""
        self._fetch_failed_s = monotonic()
        self.start(error.str())

    def on_records(self) -> None:
        """A consumer has returned records."""
        if self.is_active and not self._is_failing:
            self.end()

    @property
    def _is_failing(self) -> bool:
        return monotonic() - self._fetch_failed_s < FETCH_OVER_S

    def check(self, consumer: Consumer, *, is_paused: bool = False) -> None:
        """During an outage, when there was no record: find out whether it is over.

        librdkafka does not report that a broker is back: ask for metadata. `is_paused`: the
        consumer fetches nothing.
        """
        if not self.is_active:
            return
        if self._is_failing:
            if not is_paused:
                self._report_again(consumer)
            return
        try:
            partition_count(consumer, self._topic, self._timeout_s)
        except JournalUnavailable:
            return
        self.end()

    def _report_again(self, consumer: Consumer) -> None:
        if monotonic() - self._reported_again_s >= REPORT_AGAIN_S:
            self._reported_again_s = monotonic()
            report_again(consumer, consumer.assignment())


class TopicReader:
    """Reads all partitions of one topic. Used by one thread; never raises for a missing broker.

    Offsets are asked of the broker and assigned as numbers, so that from the moment `is_open`
    turns true nothing that is appended afterwards is missed.
    """

    def __init__(self, kafka: KafkaAccess, topic: str, partitions: int, start: Start) -> None:
        """Connects in the background; `partitions` is what the topic must have."""
        self._topic, self._partitions, self._start = topic, partitions, start
        self._kafka = kafka
        self._outage = ConsumerOutage(topic, METADATA_TIMEOUT_S, log)
        self._consumer = self._make()
        self._behind: dict[int, int] | None = None  # partition → end when opened; None: not open
        self._next: dict[int, int] = {}  # partition → offset; empty: what `start` returns
        self._is_paused = False

    def _make(self) -> Consumer:
        config = kafka_settings.follower_consumer(self._kafka) | {
            # When retention overtakes the reader it continues with the oldest record left.
            "auto.offset.reset": "earliest",
        }
        return make_consumer(config, self._outage.on_error)

    def _renew(self, lost: BrokersLost) -> None:
        """`open` then continues where the lost client was."""
        log.warning("topic %s: %s", self._topic, lost)
        self._consumer = self._make()
        self._behind = None

    @property
    def is_open(self) -> bool:
        """The topic exists and its partitions are assigned."""
        return self._behind is not None

    @property
    def is_caught_up(self) -> bool:
        """Every record that the topic held when it was opened has been returned."""
        return self._behind is not None and not self._behind

    @property
    def unavailable_reason(self) -> str | None:
        """Why no records come; None while there is no fault."""
        return self._outage.reason

    def open(self) -> bool:
        """Assign the partitions once the topic exists; call it again until it returns True.

        Waits about a second at most. Raises `ShardCountMismatch`.
        """
        try:
            return self._behind is not None or self._open()
        except BrokersLost as lost:
            self._renew(lost)
            return False

    def _open(self) -> bool:
        try:
            found = partition_count(self._consumer, self._topic, METADATA_TIMEOUT_S)
            if found == 0:
                raise JournalUnavailable("does not exist yet; a replica creates it")
            check_partition_count(self._topic, found, self._partitions)
            self._assign()
        except JournalUnavailable as error:
            self._outage.start(str(error))
            self._consumer.poll(RETRY_S)  # serves the client's callbacks and paces the attempts
            return False
        self._outage.end()
        return True

    def _assign(self) -> None:
        starts, behind = [], {}
        for partition in range(self._partitions):
            low, high = bounds(self._consumer, self._topic, partition, METADATA_TIMEOUT_S)
            offset = max(low, self._next.get(partition, self._start(low, high)))
            starts.append(TopicPartition(self._topic, partition, offset))
            if offset < high:
                behind[partition] = high
        assign(self._consumer, starts, paused=starts if self._is_paused else ())
        if not self._is_paused:
            self._next = {start.partition: start.offset for start in starts}
        self._behind = behind
        wake(self._consumer, starts, WAKE_TIMEOUT_S)

    def poll(self, timeout_s: float, limit: int = 2_000) -> list[TopicRecord]:
        """The next records, at most `limit`; waits up to `timeout_s` seconds for the first only.

        `is_open` may be false afterwards: then `open` again.
        """
        try:
            messages = self._consume(timeout_s, limit)
        except BrokersLost as lost:
            self._renew(lost)
            return []
        records = [to_record(message) for message in messages if not self._is_error(message)]
        if records:
            self._outage.on_records()
            self._note_progress(records)
        return records

    def _consume(self, timeout_s: float, limit: int) -> list[Message]:
        first = self._consumer.poll(timeout_s)
        if first is None:
            self._outage.check(self._consumer, is_paused=self._is_paused)
            return []
        return [first, *self._consumer.consume(limit - 1, 0)]

    def pause(self) -> None:
        """Fetch nothing until `skip_to_end`."""
        self._is_paused = True
        self._next.clear()
        self._consumer.pause(self._all())

    def skip_to_end(self) -> None:
        """Continue with what is appended from now on. Raises `JournalUnavailable`."""
        ends = []
        for partition in range(self._partitions):
            _, high = bounds(self._consumer, self._topic, partition, METADATA_TIMEOUT_S)
            ends.append(TopicPartition(self._topic, partition, high))
        with translated(self._topic):
            for position in ends:
                self._consumer.seek(position)
        self._consumer.resume(ends)
        self._is_paused = False
        self._next = {position.partition: position.offset for position in ends}
        wake(self._consumer, ends, WAKE_TIMEOUT_S)

    def close(self) -> None:
        with suppress(BrokersLost):
            self._consumer.close()

    def _all(self) -> list[TopicPartition]:
        return [TopicPartition(self._topic, partition) for partition in range(self._partitions)]

    def _note_progress(self, records: list[TopicRecord]) -> None:
        for record in records:
            self._next[record.partition] = record.offset + 1
        if self._behind:
            self._behind = {
                partition: high
                for partition, high in self._behind.items()
                if self._next.get(partition, 0) < high
            }

    def _is_error(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return False
        self._outage.on_fetch_error(error)
        return True
