"""Each output of a sink exactly once, for consumers outside Postjournal.

    from postjournal.subscribe import subscribe

    with subscribe("localhost:9092", "ledger.results", group="my-service") as results:
        while True:
            for output in results.poll(1.0):
                handle(output.value)
            results.commit()

Outputs carry a `seq`, dense from 0 per sink and shard. A deposed leader may publish some of them
again, late; what is handed out here has each sequence once, in order. A sequence that is missing
raises `SequenceGap`.

The place is kept as the committed offset of the consumer group, with the last sequence in that
commit's metadata. So an output that was handed out but not committed comes again after a crash:
at least once, as far as the program's effects are concerned. A program whose effects are in a
database makes them exactly-once by keeping the place there too, in the same transaction: see
`PositionStore`, and `postjournal.adapters.redis.projection` for an example.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from time import monotonic
from types import TracebackType
from typing import Literal

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.client import watched
from postjournal.adapters.kafka.group_positions import GroupPositions
from postjournal.adapters.kafka.metadata import bounds, partition_count
from postjournal.adapters.outage import Outage
from postjournal.core.errors import (
    ConfigurationError,
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
    SequenceTracker,
)

__all__ = [
    "PartitionReader",
    "Position",
    "PositionStore",
    "Progress",
    "Received",
    "SequenceGap",
    "SequenceTracker",
    "Start",
    "Subscription",
    "subscribe",
]

log = logging.getLogger(__name__)

Start = Literal["beginning", "end"]

ANSWER_S = 2.0
"""A broker that takes longer to answer counts as away."""

RETRY_S = 0.2
REPORT_MS = 30_000
"""Seldom: reports pile up while the program does something else for long."""

LAG_EVERY_S = 1.0
SETTLE_POLL_S = 0.1


class _Sequenced(msgspec.Struct):
    seq: int


_sequence_of = msgspec.json.Decoder(_Sequenced).decode


def subscribe(
    bootstrap: str,
    topic: str,
    *,
    group: str | None = None,
    positions: PositionStore | None = None,
    partitions: Sequence[int] | None = None,
    start: Start = "beginning",
) -> Subscription:
    """Follow a sink's topic; nothing is read before the first `poll`.

    `bootstrap`: Kafka's host:port list. `group`: a consumer group, which shares the partitions
    among its members and keeps the positions, unless `positions` says where else to keep them.
    Without a group this subscriber reads `partitions`, all of the topic's by default, and
    `positions` must be given. `start`: where to begin without a position.

    Raises `ConfigurationError` when neither `group` nor `positions` is given, or `group` and
    `partitions` are.
    """
    if group is None and positions is None:
        raise ConfigurationError("subscribe: give a group or a place to keep the positions")
    if group is not None and partitions is not None:
        raise ConfigurationError("subscribe: a group chooses the partitions by itself")
    return Subscription(
        bootstrap, topic, group=group, positions=positions, partitions=partitions, start=start
    )


class Subscription:
    """Made by `subscribe`. Used by one thread; a context manager; Kafka may come and go."""

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        *,
        group: str | None,
        positions: PositionStore | None,
        partitions: Sequence[int] | None,
        start: Start,
    ) -> None:
        """See `subscribe`."""
        self._topic, self._partitions, self._start = topic, partitions, start
        self._is_member = group is not None
        settings = kafka_settings.subscriber_consumer(bootstrap, group or "postjournal-unused")
        settings |= {"log_level": 2, "error_cb": self._on_error}
        self._consumer = Consumer(watched(settings, REPORT_MS))
        self._store = positions or GroupPositions(self._consumer, topic, ANSWER_S)
        self._outage = Outage(f"topic {topic}", log)
        self._joined = False
        self._owned: list[int] | None = None
        self._placed = False
        self._readers: dict[int, PartitionReader] = {}
        self._saved: dict[int, Position] = {}
        self._gap: SequenceGap | None = None
        self._outputs_count = self._repeats_before = 0
        self._polled_s, self._lag_known_s, self._lag_records = monotonic(), 0.0, 0

    # --- what programs use ------------------------------------------------------------------

    def poll(self, timeout_s: float, limit: int = 2_000) -> list[Received]:
        """The next outputs, each once; [] when none came within `timeout_s` seconds.

        Also returns early with [] while Kafka is away. Raises `SequenceGap` when an output is
        missing, `RecordsMissing` when the stored position is not in the topic, `BrokersLost` when
        only a new subscription helps (or the process's restart), and what the position store
        raises.
        """
        self._note_progress()
        if not self._is_ready():
            return []
        if self._gap is not None:
            raise self._gap
        first = self._consumer.poll(self._patience(timeout_s))
        if first is None:
            self._look_for_broker()
            return self._outputs([])
        return self._outputs([first, *self._consumer.consume(limit - 1, 0)])

    def positions(self) -> dict[int, Position]:
        """Partition → the place after all that `poll` has returned, where it has moved."""
        places = {partition: reader.position for partition, reader in self._readers.items()}
        return {
            partition: place
            for partition, place in places.items()
            if place is not None and place != self._saved.get(partition)
        }

    def commit(self) -> None:
        """Save the positions: all that `poll` has returned is done with.

        Raises `JournalUnavailable` (or what the position store raises) when that fails: try it
        again, or go on, the next commit covers it.
        """
        moved = self.positions()
        if moved:
            self._store.save(moved)
            self._saved |= moved

    def note_saved(self) -> None:
        """The caller has saved `positions()` itself, with the effects of the outputs."""
        self._saved |= self.positions()

    def reload(self) -> None:
        """Go back to the stored positions: what was not saved will be handed out again."""
        self._placed = False
        self._gap = None

    @property
    def trouble(self) -> str:
        """Why nothing comes, or ""; any thread may ask."""
        if self._outage.active:
            return self._outage.why
        return "" if self._placed or self._owned is not None else "no partitions assigned yet"

    def progress(self) -> Progress:
        """For metrics; any thread may ask."""
        readers = dict(self._readers)
        places = {each: reader.position for each, reader in readers.items()}
        return Progress(
            outputs=self._outputs_count,
            repeats=self._repeats_before + sum(reader.repeats for reader in readers.values()),
            lag_records=self._lag_records,
            last_seq={each: place.last_seq or 0 for each, place in places.items() if place},
            idle_s=monotonic() - self._polled_s,
        )

    def _note_progress(self) -> None:
        """Here, since the client lets no second thread in while one waits for records."""
        now_s = monotonic()
        if now_s - self._lag_known_s >= LAG_EVERY_S:
            self._lag_known_s = now_s
            self._lag_records = sum(self._lag(*reader) for reader in self._readers.items())
        self._polled_s = now_s

    def _lag(self, partition: int, reader: PartitionReader) -> int:
        """By the end that came with the last fetch; before the first one it is not known."""
        place = TopicPartition(self._topic, partition)
        known = self._consumer.get_watermark_offsets(place, cached=True)
        end = known[1] if known else -1
        return max(end - (reader.position.next_offset if reader.position else 0), 0)

    def close(self) -> None:
        """Leave the group; what is not committed stays so."""
        if isinstance(self._store, GroupPositions) and not self._store.is_idle():
            log.warning("topic %s: left without telling the group: no answer", self._topic)
            return
        self._consumer.close()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Received]:
        """Each output, for ever; commits when the loop has come to the end of a batch."""
        while True:
            yield from self.poll(1.0)
            self.commit()

    # --- finding the place ------------------------------------------------------------------

    def _is_ready(self) -> bool:
        try:
            if not self._joined:
                self._join()
            if self._owned is not None and not self._placed:
                self._place(self._owned)
        except JournalUnavailable as error:
            self._outage.begin(str(error))
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
        """Assign nothing yet: finding the places may have to be tried more than once."""
        consumer.assign([])
        self._owned = [each.partition for each in partitions]
        self._placed = False

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        del partitions  # the protocol is eager: always all of them
        consumer.unassign()
        self._owned = None
        self._forget_readers()

    def _forget_readers(self) -> None:
        self._repeats_before += sum(reader.repeats for reader in self._readers.values())
        self._readers, self._saved, self._gap = {}, {}, None

    def _place(self, partitions: list[int]) -> None:
        self._forget_readers()
        self._consumer.assign([])  # nothing of the time before
        places = [self._open(partition) for partition in partitions]
        self._consumer.assign(places)
        self._placed = True
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
                f"{position.next_offset}, but the topic ends at {high}: was it made anew?"
            )

    # --- reading ----------------------------------------------------------------------------

    def _patience(self, timeout_s: float) -> float:
        """A window that ends by time must not wait for the next record."""
        settling = any(reader.position is None for reader in self._readers.values())
        return min(timeout_s, SETTLE_POLL_S) if settling else timeout_s

    def _outputs(self, messages: list[Message]) -> list[Received]:
        """What is new in `messages`; a gap is raised when all before it has been handed out."""
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
                yield _received(message)
            except UNREADABLE as error:
                log.warning(
                    "%s/%s: the record at offset %s is no output and is skipped: %s",
                    self._topic,
                    message.partition(),
                    message.offset(),
                    error,
                )

    def _is_error(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            self._outage.end()
            return False
        if error.fatal():
            raise KafkaException(error)
        self._outage.begin(error.str())
        return True

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._outage.begin("Kafka is away")

    def _look_for_broker(self) -> None:
        """The client tells when all brokers are gone, but not when one is back."""
        if not self._outage.active:
            return
        try:
            partition_count(self._consumer, self._topic, ANSWER_S)
        except JournalUnavailable:
            return
        self._outage.end()


def _received(message: Message) -> Received:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    value = message.value() or b""
    return Received(
        topic, partition, offset, _sequence_of(value).seq, value, message.timestamp()[1]
    )
