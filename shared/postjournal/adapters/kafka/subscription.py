"""A subscriber's side of a sink's topic. Public as `postjournal.subscribe.Subscription`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from time import monotonic
from typing import Literal

import msgspec
from confluent_kafka import Consumer, Message, TopicPartition

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.client import make_consumer, to_record
from postjournal.adapters.kafka.group_positions import GroupPositions
from postjournal.adapters.kafka.metadata import bounds, partition_count
from postjournal.adapters.kafka.topic_reader import ConsumerOutage
from postjournal.config.settings import KafkaAccess
from postjournal.core.errors import (
    BrokersLost,
    JournalUnavailable,
    RecordsMissing,
    SequenceGap,
)
from postjournal.core.records import UNREADABLE
from postjournal.core.sequence import (
    WINDOW_RECORDS,
    PartitionReader,
    Position,
    PositionStore,
    Progress,
    Received,
)

log = logging.getLogger(__name__)

Start = Literal["beginning", "end"]

ANSWER_S = 2.0
"""A broker that takes longer to answer counts as unavailable."""

RETRY_S = 0.2
REPORT_MS = 30_000
"""Rarer than `client.REPORT_MS`: reports pile up while the program is busy between polls."""

LAG_EVERY_S = 1.0
SETTLE_POLL_S = 0.1


class _Sequenced(msgspec.Struct):
    seq: int


_sequence_of = msgspec.json.Decoder(_Sequenced).decode


class Subscription:
    """Made by `subscribe`. Used by one thread; a context manager; Kafka may come and go."""

    def __init__(
        self,
        kafka: KafkaAccess,
        topic: str,
        *,
        group: str | None,
        positions: PositionStore | None,
        partitions: Sequence[int] | None,
        start: Start,
    ) -> None:
        """See `subscribe`, which checks that the arguments fit together."""
        self._topic, self._partitions, self._start = topic, partitions, start
        self._is_member = group is not None
        self._outage = ConsumerOutage(topic, ANSWER_S, log)
        config = kafka_settings.subscriber_consumer(kafka, group or kafka_settings.UNUSED_GROUP)
        self._consumer = make_consumer(config, self._outage.on_error, REPORT_MS)
        self._store = positions or GroupPositions(self._consumer, topic, ANSWER_S)
        self._joined = False
        self._owned: list[int] | None = None
        self._positioned = False
        self._readers: dict[int, PartitionReader] = {}
        self._saved: dict[int, Position] = {}
        self._gap: SequenceGap | None = None
        self._outputs_count = self._repeats_before = 0
        self._polled_s, self._lag_known_s, self._lag_records = monotonic(), 0.0, 0

    # --- what programs use ------------------------------------------------------------------

    def poll(self, timeout_s: float, limit: int = 2_000) -> list[Received]:
        """The next outputs, each once; [] when none came within `timeout_s` seconds.

        At most `limit`. Also returns early with [] while Kafka is unavailable. Raises
        `SequenceGap` when an output is missing, `RecordsMissing` when the stored position is not
        in the topic, `BrokersLost` when only a new subscription helps (or a restart of the
        process), and what the position store raises.
        """
        self._note_progress()
        if not self._is_ready():
            return []
        if self._gap is not None:
            raise self._gap
        first = self._consumer.poll(self._poll_timeout_s(timeout_s))
        if first is None:
            self._outage.check(self._consumer)
            return self._outputs([])
        return self._outputs([first, *self._consumer.consume(limit - 1, 0)])

    def positions(self) -> dict[int, Position]:
        """Partition → the position after all that `poll` has returned, where it has moved."""
        positions = {partition: reader.position for partition, reader in self._readers.items()}
        return {
            partition: position
            for partition, position in positions.items()
            if position is not None and position != self._saved.get(partition)
        }

    def commit(self) -> None:
        """Save the positions: all that `poll` has returned is processed.

        Raises `JournalUnavailable` (or what the position store raises) when that fails: try it
        again, or go on, since the next commit covers it.
        """
        moved = self.positions()
        if moved:
            self._store.save(moved)
            self._saved |= moved

    def note_saved(self) -> None:
        """Record that the caller has saved `positions()` itself.

        For programs that save them in one transaction with the effects of the outputs.
        """
        self._saved |= self.positions()

    def reload(self) -> None:
        """Go back to the stored positions: `poll` returns again what was not saved."""
        self._positioned = False
        self._gap = None

    @property
    def unavailable_reason(self) -> str | None:
        """Why no outputs come; None when all is well. Any thread may ask."""
        if self._outage.is_active:
            return self._outage.reason
        has_partitions = self._positioned or self._owned is not None
        return None if has_partitions else "no partitions assigned yet"

    def progress(self) -> Progress:
        """Counters for metrics. Any thread may ask."""
        readers = dict(self._readers)
        positions = {partition: reader.position for partition, reader in readers.items()}
        return Progress(
            outputs=self._outputs_count,
            repeats=self._repeats_before + sum(reader.repeats for reader in readers.values()),
            lag_records=self._lag_records,
            last_seq={
                partition: position.last_seq or 0
                for partition, position in positions.items()
                if position
            },
            idle_s=monotonic() - self._polled_s,
        )

    def close(self) -> None:
        """Leave the group; what is not committed stays uncommitted."""
        if isinstance(self._store, GroupPositions) and not self._store.is_idle():
            log.warning("topic %s: closed without leaving the group: no answer", self._topic)
            return
        self._consumer.close()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Received]:
        """Each output, indefinitely; commits when the loop has processed a batch."""
        while True:
            yield from self.poll(1.0)
            self.commit()

    # --- finding the positions --------------------------------------------------------------

    def _is_ready(self) -> bool:
        try:
            if not self._joined:
                self._join()
            if self._owned is not None and not self._positioned:
                self._assign(self._owned)
        except JournalUnavailable as error:
            self._outage.start(str(error))
            self._consumer.poll(RETRY_S)  # serves callbacks and paces the attempts
            return False
        return True

    def _join(self) -> None:
        """Only when the topic exists: librdkafka looks for a missing one once in minutes."""
        count = partition_count(self._consumer, self._topic, ANSWER_S)
        if count == 0:
            raise JournalUnavailable("does not exist yet; a replica creates it")
        if self._is_member:
            self._consumer.subscribe(
                [self._topic],
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_revoke,
            )
        else:
            self._owned = list(range(count) if self._partitions is None else self._partitions)
        self._joined = True
        self._outage.end()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Assign nothing yet: finding the positions may take more than one attempt."""
        consumer.assign([])
        self._owned = [assigned.partition for assigned in partitions]
        self._positioned = False

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        del partitions  # the protocol is eager: always all of them
        consumer.unassign()
        self._owned = None
        self._forget_readers()

    def _forget_readers(self) -> None:
        self._repeats_before += sum(reader.repeats for reader in self._readers.values())
        self._readers, self._saved, self._gap = {}, {}, None

    def _assign(self, partitions: list[int]) -> None:
        self._forget_readers()
        self._consumer.assign([])  # drops what was fetched before
        starts = [self._open(partition) for partition in partitions]
        self._consumer.assign(starts)
        self._positioned = True
        self._outage.end()

    def _open(self, partition: int) -> TopicPartition:
        low, high = bounds(self._consumer, self._topic, partition, ANSWER_S)
        position = self._store.load(partition)
        offset, skip_until = low, 0
        if position is not None:
            offset = position.next_offset
            self._check_in_topic(partition, position, high)
            self._saved[partition] = position
        elif self._start == "end":
            offset = max(low, high - WINDOW_RECORDS)
            skip_until = high if offset < high else 0
        self._readers[partition] = PartitionReader(
            self._topic, partition, position, skip_until=skip_until
        )
        return TopicPartition(self._topic, partition, offset)

    def _check_in_topic(self, partition: int, position: Position, high: int) -> None:
        if position.next_offset > high:
            raise RecordsMissing(
                f"{self._topic}/{partition}: the stored position is offset "
                f"{position.next_offset}, but the topic ends at {high}: check whether the topic "
                "was recreated"
            )

    # --- reading ----------------------------------------------------------------------------

    def _poll_timeout_s(self, timeout_s: float) -> float:
        """A window that ends by time must not wait for the next record."""
        is_settling = any(reader.position is None for reader in self._readers.values())
        return min(timeout_s, SETTLE_POLL_S) if is_settling else timeout_s

    def _outputs(self, messages: list[Message]) -> list[Received]:
        """What is new in `messages`; a gap is raised once all before it has been returned."""
        now_ms = int(monotonic() * 1000)
        outputs: list[Received] = []
        try:
            for record in self._records(messages):
                reader = self._readers.get(record.partition)
                if reader is not None:  # None: revoked while it was in the client's queue
                    outputs += reader.take(record, now_ms)
            for reader in self._readers.values():
                outputs += reader.expire(now_ms)
        except SequenceGap as gap:
            self._gap = gap
            if not outputs:
                raise
        self._outputs_count += len(outputs)
        return outputs

    def _records(self, messages: list[Message]) -> Iterator[Received]:
        for message in messages:
            if self._is_error(message):
                continue
            try:
                yield self._received(message)
            except UNREADABLE as error:
                log.warning(
                    "%s/%s: skipping the record at offset %s, which is not an output: %s",
                    self._topic,
                    message.partition(),
                    message.offset(),
                    error,
                )

    def _received(self, message: Message) -> Received:
        record = to_record(message)
        seq = _sequence_of(record.value).seq
        return Received(
            self._topic, record.partition, record.offset, seq, record.value, record.time_ms
        )

    def _is_error(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            self._outage.on_records()
            return False
        if error.fatal():
            raise BrokersLost(f"topic {self._topic}: the consumer has failed: {error.str()}")
        self._outage.on_fetch_error(error)
        return True

    # --- metrics ----------------------------------------------------------------------------

    def _note_progress(self) -> None:
        """In `poll`, since the client blocks a second thread while one waits for records."""
        now_s = monotonic()
        if now_s - self._lag_known_s >= LAG_EVERY_S:
            self._lag_known_s = now_s
            self._lag_records = sum(self._lag(*reader) for reader in self._readers.items())
        self._polled_s = now_s

    def _lag(self, partition: int, reader: PartitionReader) -> int:
        """Relative to the end that came with the last fetch, which is unknown before the first."""
        wanted = TopicPartition(self._topic, partition)
        known = self._consumer.get_watermark_offsets(wanted, cached=True)
        end = known[1] if known else -1
        return max(end - (reader.position.next_offset if reader.position else 0), 0)
