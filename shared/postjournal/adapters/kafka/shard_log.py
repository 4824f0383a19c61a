"""A shard's partitions on a real Kafka: the `ShardLog` port.

One consumer is assigned journal, sources and control together; on a standby the sources are
paused. Producers and connections exist before a takeover needs them: assigning a partition or
asking for a producer id at that moment would cost hundreds of milliseconds.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from itertools import groupby
from time import monotonic
from typing import Any

from confluent_kafka import (
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.client import watched
from postjournal.adapters.kafka.sink import RETRY_S, SinkWriter, TailReader, discard, warm
from postjournal.cluster.status import Handover, decode_control
from postjournal.cluster.topics import Topics
from postjournal.core import messages as m
from postjournal.core.errors import RecordsMissing
from postjournal.core.state.outbox import Outputs

log = logging.getLogger(__name__)

MAX_MESSAGES = 2_000
"""Messages taken at once: a leader decides and reads back in turns of some milliseconds."""

PROBE_TIMEOUT_S = 0.2
"""A broker that does not tell the journal's end in this time counts as away."""

# Unbound methods in `map`: the fastest way to read one field of many messages. The stubs allow
# None, which only messages of producers and events have.
_offset: Callable[[Message], int] = Message.offset  # type: ignore[assignment]
_value: Callable[[Message], bytes] = Message.value  # type: ignore[assignment]
_topic: Callable[[Message], str] = Message.topic  # type: ignore[assignment]

BOUNDS_TIMEOUT_S = 2.0
"""On one connection answers come in order: this one waits for a fetch that waits for records."""

APPEND_REPORTS = (m.AppendAcknowledged, m.AppendFailed)

CONNECTION_LOST = (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT)


class KafkaLog:
    """See `ports.ShardLog`. `shard` is the partition of all topics.

    `poll` and `close` raise `BrokersLost`: then this log is of no use any more.
    """

    def __init__(self, bootstrap: str, topics: Topics, shard: int) -> None:
        """Connects in the background; the topics must exist."""
        self._bootstrap, self._topics, self._shard = bootstrap, topics, shard
        self._arrived: deque[m.Message] = deque()
        self._generation = 0
        self._journal = TopicPartition(topics.journal, shard, 0)
        self._sources = [TopicPartition(topic, shard, 0) for topic in topics.source_topics]
        self._next_offset: int | None = None  # of the journal; None: not open
        self._is_assigned = False
        self._paused = True
        self._held = False
        self._consumer = self._make_consumer()
        self._appender = self._make_appender()
        self._has_failed = False  # the appender
        self._claimer = Producer(watched(_quiet(kafka_settings.claim_producer(bootstrap))))
        warm(self._appender, topics.journal)
        warm(self._claimer, topics.journal)
        self._tails = TailReader(bootstrap, topics.sink_topics, shard)
        self._writers = {
            sink: SinkWriter(bootstrap, sink, topic, shard)
            for sink, topic in topics.sink_topics.items()
        }
        self._to_open: dict[str, float] = {}  # sink → when, by the monotonic clock

    # --- reading ----------------------------------------------------------------------------

    def poll(self, timeout_ms: int) -> list[m.Message]:
        """Records in as few messages as possible: journal first, then each source."""
        self._serve_producers()
        if self._arrived:
            timeout_ms = 0
        first = self._consumer.poll(timeout_ms / 1000)
        arrived: list[m.Message] = []
        if first is not None:
            arrived = self._sort([first, *self._consumer.consume(MAX_MESSAGES, 0)])
        self._serve_producers()
        if self._arrived:
            arrived += self._arrived
            self._arrived.clear()
        return arrived

    def _serve_producers(self) -> None:
        self._appender.poll(0)
        self._claimer.poll(0)
        for writer in self._writers.values():
            writer.collect(self._arrived)
        if self._to_open:
            self._open_due()
        self._tails.collect(self._arrived)

    def _open_due(self) -> None:
        now = monotonic()
        due = frozenset(sink for sink, at in self._to_open.items() if at <= now)
        if due:
            self._tails.read(due)
            for sink in due:
                del self._to_open[sink]

    def _sort(self, messages: list[Message]) -> list[m.Message]:
        if any(map(Message.error, messages)):
            messages = [each for each in messages if not self._is_error(each)]
        journal: list[tuple[int, bytes]] = []
        others: list[m.Message] = []
        for topic, group in groupby(messages, _topic):
            run = list(group)
            if topic == self._topics.journal:
                if self._next_offset is not None:
                    journal += zip(map(_offset, run), map(_value, run), strict=True)
            elif topic == self._topics.control:
                others += self._commands(run)
            else:
                others.append(_source_records(topic, run))
        if not journal:
            return others
        self._next_offset = journal[-1][0] + 1
        return [m.JournalRecords(journal), *others]

    def _commands(self, records: Iterable[Message]) -> Iterator[m.Message]:
        for record in records:
            command = decode_control(record.value())
            if command is None or command.shard != self._shard:
                continue
            if isinstance(command, Handover):
                yield m.HandoverRequested(command.successor)
            else:
                yield m.SnapshotRequested(
                    command.replica, command.id, command.attempt, command.allow_leader
                )

    def _is_error(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return False
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            if message.topic() == self._topics.control:
                self._skip_control(error)
            elif message.topic() != self._topics.journal:
                raise self._missing(message, error)
            elif self._next_offset is not None:
                self._on_journal_gone(message, error)
        else:
            log.warning("shard %d: Kafka says: %s", self._shard, error.str())
        return True

    def _skip_control(self, error: KafkaError) -> None:
        """Its records are kept for minutes; nothing depends on those that a sleeper has missed."""
        log.warning(
            "%s/%d: records are gone before they were read (%s); going on at the end",
            *(self._topics.control, self._shard, error.str()),
        )
        # librdkafka does not seek in a partition that failed.
        control = self._control_end()
        self._consumer.incremental_unassign([control])
        self._consumer.incremental_assign([control])

    def _control_end(self) -> TopicPartition:
        """Asked now: OFFSET_END means the end some time later."""
        control = TopicPartition(self._topics.control, self._shard)
        end = self._tails.end_of(control, PROBE_TIMEOUT_S)
        control.offset = OFFSET_END if end is None else end
        return control

    def _on_journal_gone(self, message: Message, error: KafkaError) -> None:
        """Trimmed, or made anew: then what we have read is not what everybody else will read.

        When Kafka does not tell which, the recovery finds out.
        """
        with suppress(KafkaException):
            begin, _ = self._consumer.get_watermark_offsets(
                self._journal, timeout=BOUNDS_TIMEOUT_S, cached=False
            )
            if begin <= (self._next_offset or 0):
                raise self._missing(message, error)
        self._next_offset = None
        self._is_assigned = False  # librdkafka does not seek in a partition that failed
        self._arrived.append(m.JournalTrimmed())

    def _missing(self, message: Message, error: KafkaError) -> RecordsMissing:
        return RecordsMissing(
            f"{message.topic()}/{self._shard}: Kafka no longer has the records that this "
            f"shard needs next ({error.str()}); was the topic trimmed or made anew?"
        )

    def open_journal(self, offset: int) -> None:
        """The first call assigns all partitions: what is assigned later, or from another offset,
        would have to wait for a fetch without it to end."""
        self._next_offset = offset
        place = TopicPartition(self._topics.journal, self._shard, offset)
        if self._is_assigned:
            self._consumer.seek(place)
            return
        self._is_assigned = True
        self._consumer.assign([place, *self._sources, self._control_end()])
        self._consumer.pause(self._sources)
        self._wake()

    def _wake(self) -> None:
        """librdkafka's broker thread sleeps for up to 1 s while nothing is fetched, and an
        assignment does not wake it; any request does."""
        with suppress(KafkaException):
            self._consumer.get_watermark_offsets(
                self._journal, timeout=PROBE_TIMEOUT_S, cached=False
            )

    def rewind(self) -> None:
        """What the journal still delivers is dropped: it stays assigned."""
        self._generation += 1
        self._arrived.clear()
        self.close_sources()
        self.close_sinks()
        self._renew_appender()
        self._next_offset = None
        self._arrived.clear()

    def probe_end(self, token: Any = None) -> None:
        """Asks the broker, not the cache, and not behind the fetch that waits for records."""
        end = self._tails.end_of(self._journal, PROBE_TIMEOUT_S)
        self._arrived.append(m.JournalEnd(end, token))

    def known_end(self) -> int | None:
        """The journal's end as of the last fetch, without asking; None when unknown."""
        _, end = self._consumer.get_watermark_offsets(self._journal, cached=True)
        return end if end >= 0 else None

    # --- sources ----------------------------------------------------------------------------

    def open_sources(self, offsets: dict[str, int]) -> None:
        """Seek, then resume: the partitions are assigned already."""
        for partition in self._sources:
            position = offsets.get(partition.topic, 0)
            self._consumer.seek(TopicPartition(partition.topic, self._shard, position))
        self._paused, self._held = False, False
        self._consumer.resume(self._sources)

    def pause_sources(self) -> None:
        """librdkafka goes on from the last record it handed out."""
        self._held = True
        self._consumer.pause(self._sources)

    def resume_sources(self) -> None:
        """Only what was held; closed sources stay closed."""
        if self._held and not self._paused:
            self._consumer.resume(self._sources)
        self._held = False

    def close_sources(self) -> None:
        """What librdkafka had fetched is dropped by the seek of the next `open_sources`."""
        if not self._paused:
            self._consumer.pause(self._sources)
        self._paused = True

    # --- appending --------------------------------------------------------------------------

    def append(self, value: bytes) -> None:
        """One record, one delivery report."""
        report = partial(self._on_append, self._generation)
        try:
            self._appender.produce(
                self._topics.journal, value, partition=self._shard, on_delivery=report
            )
        except (BufferError, KafkaException) as error:
            self._fail(str(error))

    def _on_append(self, generation: int, error: KafkaError | None, message: Message) -> None:
        del message
        if generation != self._generation:
            return
        if error is None:
            self._arrived.append(m.AppendAcknowledged(1))
        else:
            self._fail(error.str())

    def _fail(self, error: str) -> None:
        self._has_failed = True
        self._arrived.append(m.AppendFailed(error))

    def forget_appends(self) -> None:
        """After a fatal error librdkafka takes nothing any more: then a fresh producer."""
        self._generation += 1
        kept = [each for each in self._arrived if not isinstance(each, APPEND_REPORTS)]
        self._arrived = deque(kept)
        if self._has_failed:
            self._renew_appender()

    def _renew_appender(self) -> None:
        discard(self._appender)
        self._appender = self._make_appender()
        self._has_failed = False

    def append_claim(self, value: bytes) -> None:
        """A claim that cannot even be queued is a claim lost: the replica repeats it."""
        try:
            self._claimer.produce(self._topics.journal, value, partition=self._shard)
        except (BufferError, KafkaException) as error:
            log.warning("shard %d: claim not sent: %s", self._shard, error)

    def purge_claims(self) -> None:
        """In the queue only: what is in flight may land."""
        self._claimer.purge(in_queue=True, in_flight=False)

    # --- sinks ------------------------------------------------------------------------------

    def open_sink(self, sink: str) -> None:
        """The tails of all sinks opened in one turn are read together, by another thread.

        After a failure a little later: what Kafka does not take now it may never take.
        """
        had_failed = self._writers[sink].renew_if_used()
        self._to_open[sink] = monotonic() + (RETRY_S if had_failed else 0.0)
        self._tails.forget(sink)

    def publish(self, sink: str, outputs: Outputs) -> None:
        """In order; one report for all."""
        self._writers[sink].write(outputs)

    def close_sinks(self) -> None:
        """Fresh producers are made now, so that the next takeover finds them connected."""
        self._to_open.clear()
        for sink, writer in self._writers.items():
            self._tails.forget(sink)
            writer.renew_if_used()

    def close(self) -> None:
        """Sends what is queued (a resignation), then lets go of everything."""
        with ExitStack() as every_one:  # also when one of them has lost its brokers
            every_one.callback(self._consumer.close)
            every_one.callback(discard, self._claimer)
            every_one.callback(discard, self._appender)
            for writer in self._writers.values():
                every_one.callback(writer.close)
            every_one.callback(self._tails.close)
            self._appender.flush(1.0)

    # --- making clients ---------------------------------------------------------------------

    def _make_consumer(self) -> Consumer:
        config = kafka_settings.engine_consumer(self._bootstrap)
        return Consumer(watched(_quiet(config)) | {"error_cb": self._on_client_error})

    def _make_appender(self) -> Producer:
        return Producer(watched(_quiet(kafka_settings.journal_producer(self._bootstrap))))

    def _on_client_error(self, error: KafkaError) -> None:
        """A lost connection: silence from now on says nothing about the leader."""
        if error.code() in CONNECTION_LOST:
            self._arrived.append(m.JournalEnd(None))


def _source_records(topic: str, run: list[Message]) -> m.SourceRecords:
    _, time_ms = run[0].timestamp()
    records = zip(map(_offset, run), map(Message.key, run), map(Message.value, run), strict=True)
    return m.SourceRecords(topic, time_ms, list(records))


def _quiet(config: dict[str, Any]) -> dict[str, Any]:
    """librdkafka prints each failed connection attempt; we say once that Kafka is away."""
    return config | {"log_level": 2}
