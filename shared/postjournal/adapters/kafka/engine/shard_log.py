"""A shard's partitions on Kafka: the `ShardLog` port.

One consumer is assigned journal, sources and control together; on a standby the sources are
paused. Producers and connections exist before a takeover needs them: to assign a partition or to
request a producer id at that moment would cost hundreds of milliseconds.
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

from confluent_kafka import OFFSET_END, KafkaError, KafkaException, Message, TopicPartition

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.client import (
    REPORTED_ONCE,
    assign,
    discard,
    make_consumer,
    make_producer,
    reassign,
    report_again,
    seek,
    serve,
    wake,
    warm_up,
)
from postjournal.adapters.kafka.engine.claims import ClaimWriter
from postjournal.adapters.kafka.engine.fetch_watch import FetchWatch
from postjournal.adapters.kafka.engine.lasting_errors import LastingErrors, is_refusal
from postjournal.adapters.kafka.engine.sink import SinkWriter
from postjournal.adapters.kafka.engine.tails import TailReader
from postjournal.adapters.kafka.notifications import notify
from postjournal.adapters.process.wakeup import Wakeup
from postjournal.cluster.status import Handover, decode_control
from postjournal.cluster.topics import Topics
from postjournal.config.settings import KafkaAccess
from postjournal.core import messages as m
from postjournal.core.errors import BrokersLost, RecordsMissing
from postjournal.core.state.outbox import Outputs

log = logging.getLogger(__name__)

MAX_MESSAGES = 2_000
"""Messages consumed at once: a leader decides and reads back in turns of some milliseconds."""

UNNOTIFIED_S = 0.002
"""The longest wait where librdkafka gives no notice of a record; see `notify`."""

PROBE_TIMEOUT_S = 0.2
"""A broker that does not return the journal's end in this time counts as unavailable."""

# Unbound methods in `map`: the fastest way to read one field of many messages. The stubs allow
# None, which only messages of producers and events have.
_offset: Callable[[Message], int] = Message.offset  # type: ignore[assignment]
_value: Callable[[Message], bytes] = Message.value  # type: ignore[assignment]
_topic: Callable[[Message], str] = Message.topic  # type: ignore[assignment]

BOUNDS_TIMEOUT_S = 2.0
"""Answers on one connection come in order: this one waits for a fetch that waits for records."""

REPORTS_S = 0.001
"""How often sinks are polled while acknowledgements are missing: they end no wait. A new leader's
first publish is alone in flight, and everything else waits for its acknowledgement. Those of the
journal wait for the next turn: nothing urgent follows from them."""

IDLE_S = 1.0
"""How often they are polled otherwise, for errors and for the reports of `client.watched`."""

APPEND_REPORTS = (m.AppendAcknowledged, m.AppendFailed)

WRITING = "the journal cannot be written"

CONNECTION_LOST = (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT)


class KafkaLog:
    """The `ShardLog` port on Kafka.

    `poll` and `close` raise `BrokersLost`: then a new log is needed.
    """

    def __init__(self, kafka: KafkaAccess, topics: Topics, shard: int, wakeup: Wakeup) -> None:
        """Connects in the background; the topics must exist.

        `shard`: the partition of all topics; `wakeup` ends the wait of `poll`.
        """
        self._kafka, self._topics, self._shard = kafka, topics, shard
        self._arrived: deque[m.Message] = deque()
        self._generation = 0
        self._journal = TopicPartition(topics.journal, shard, 0)
        self._sources = [TopicPartition(topic, shard, 0) for topic in topics.source_topics]
        self._next_offset: int | None = None  # of the journal; None: not open
        self._is_assigned = False
        self._sources_open = False
        self._sources_paused = False
        self._source_offsets: dict[str, int] = {}  # with which they were opened
        self._wakeup = wakeup
        self._tails = TailReader(kafka, topics.sink_topics, shard, wakeup)
        self._fetches = FetchWatch(self._tails.end_of, wakeup.set)
        self._consumer = make_consumer(
            kafka_settings.engine_consumer(kafka),
            self._on_client_error,
            on_positions=self._fetches.on_positions,
        )
        self._is_notified = notify(self._consumer, wakeup.descriptor)
        self._is_full = True
        self._appender = make_producer(kafka_settings.journal_producer(kafka))
        self._append_failed = False
        self._is_appending = self._is_publishing = False  # acknowledgements are missing
        self._unreported = 0  # appends of this generation
        self._serve_due_s = 0.0
        self._errors, self._client_errors = LastingErrors(), LastingErrors()
        self._reported_once: set[str] = set()  # topics whose error is to be reported again
        self._claims = ClaimWriter(kafka, topics.journal, shard, self._errors)
        warm_up(self._appender, topics.journal)
        self._writers = {
            sink: SinkWriter(kafka, sink, topic, shard, self._errors)
            for sink, topic in topics.sink_topics.items()
        }
        self._open_at_s: dict[str, float] = {}  # sink → when to open it, monotonic clock

    @property
    def unavailable_reason(self) -> str | None:
        """What Kafka refuses at present, for operators; None when it refuses nothing."""
        return "; ".join(self._errors.texts) or None

    # --- reading ----------------------------------------------------------------------------

    def poll(self, timeout_ms: int) -> list[m.Message]:
        """The records in as few messages as possible: journal first, then each source."""
        if self._is_publishing:
            self._serve_producers()
        # A full batch may have left records, of which there is no further notice.
        if timeout_ms > 0 and not self._arrived and not self._is_full:
            self._wakeup.wait(self._wait_s(timeout_ms))
        messages = self._consumer.consume(MAX_MESSAGES, 0)
        self._is_full = len(messages) == MAX_MESSAGES
        arrived = self._sort(messages) if messages else []
        self._serve_producers()
        if self._open_at_s:
            self._open_due()
        self._tails.collect(self._arrived)
        self._collect_stalls()
        if self._arrived:
            arrived += self._arrived
            self._arrived.clear()
        return arrived

    def _wait_s(self, timeout_ms: int) -> float:
        wait_s = timeout_ms / 1000
        if self._is_publishing:
            wait_s = min(wait_s, REPORTS_S)
        if self._open_at_s:
            wait_s = min(wait_s, max(min(self._open_at_s.values()) - monotonic(), 0))
        return wait_s if self._is_notified else min(wait_s, UNNOTIFIED_S)

    def _serve_producers(self) -> None:
        """Those with something outstanding; now and then all, for errors and watched brokers."""
        now_s = monotonic()
        is_due = now_s >= self._serve_due_s
        if is_due:
            self._serve_due_s = now_s + IDLE_S
            self._fetches.check_if_due(self._fetched)
            self._report_again()
        if is_due or self._claims.is_unacknowledged:
            self._claims.serve()
        if is_due or self._is_appending:
            self._serve_appender()
        if is_due or self._is_publishing:
            for writer in self._writers.values():
                writer.collect(self._arrived)
            self._is_publishing = any(writer.is_unacknowledged for writer in self._writers.values())

    @property
    def _fetched(self) -> list[TopicPartition]:
        """The partitions that are to deliver whatever they have."""
        journal = [self._journal] if self._next_offset is not None else []
        is_reading = self._sources_open and not self._sources_paused
        return journal + (self._sources if is_reading else [])

    def _collect_stalls(self) -> None:
        """A client that does not receive the journal, while another one does, is replaced."""
        for stall in self._fetches.collect():
            if isinstance(stall, str):
                self._arrived.append(m.SourceStalled(stall, None))
            elif stall.topic != self._topics.journal:
                self._arrived.append(m.SourceStalled(stall.topic, stall.reason))
            elif stall.is_proven:
                raise BrokersLost(
                    f"{stall.topic}/{self._shard}: {stall.reason}, although Kafka answers: the "
                    "client is replaced"
                )

    def _serve_appender(self) -> None:
        error = serve(self._appender)
        self._is_appending = len(self._appender) > 0
        if error is not None and self._unreported > 0:
            self._fail(error.str())
        elif error is not None:
            if self._errors.add(WRITING, error.str()):
                log.warning("shard %d: a new journal producer after: %s", self._shard, error.str())
            self._renew_appender()

    def _open_due(self) -> None:
        now = monotonic()
        due = frozenset(sink for sink, at in self._open_at_s.items() if at <= now)
        if due:
            self._tails.read(due)
            for sink in due:
                del self._open_at_s[sink]

    def _sort(self, messages: list[Message]) -> list[m.Message]:
        if any(map(Message.error, messages)):
            messages = [message for message in messages if not self._is_error(message)]
        delivered = self._fetches.delivered
        journal: list[tuple[int, bytes]] = []
        others: list[m.Message] = []
        for topic, group in groupby(messages, _topic):
            run = list(group)
            delivered[topic] = _offset(run[-1])
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
                self._on_source_missing(message, error)
            elif self._next_offset is not None:
                self._on_journal_missing(message, error)
        else:
            self._on_read_error(message.topic(), error)
        return True

    def _on_read_error(self, topic: str | None, error: KafkaError) -> None:
        """librdkafka repeats the attempt, and most errors. `topic`: None, if it concerns none."""
        what, text = f"{topic or 'Kafka'} cannot be read", error.str()
        errors = self._client_errors if topic is None else self._errors
        if errors.add(what, text):
            log.warning("shard %d: %s: %s; trying again", self._shard, what, text)
        if topic is not None and error.code() in REPORTED_ONCE:
            self._reported_once.add(topic)

    def _report_again(self) -> None:
        """So that an error is shown as long as it lasts."""
        if self._reported_once:
            control = TopicPartition(self._topics.control, self._shard)
            fetched = [*self._fetched, control]
            again = [one for one in fetched if one.topic in self._reported_once]
            self._reported_once.clear()
            report_again(self._consumer, again)

    def _on_source_missing(self, message: Message, error: KafkaError) -> None:
        """What a standby fetched before its pause took effect may be missing: it is not needed."""
        topic = str(message.topic())
        needed = self._source_offsets[topic] if self._sources_open else OFFSET_END
        if self._sources_open and (message.offset() or 0) >= needed:
            raise self._missing(message, error)
        log.info("%s/%d: retention has deleted its beginning", topic, self._shard)
        partition = TopicPartition(topic, self._shard, needed)
        reassign(self._consumer, partition)
        if self._sources_paused or not self._sources_open:
            self._consumer.pause([partition])

    def _skip_control(self, error: KafkaError) -> None:
        """Its records are kept for minutes; a replica that was stopped for longer needs none."""
        log.warning(
            "%s/%d: records were deleted before they were read (%s); continuing at the end",
            *(self._topics.control, self._shard, error.str()),
        )
        reassign(self._consumer, self._control_at_end())

    def _control_at_end(self) -> TopicPartition:
        """The end as of now: OFFSET_END means the end some time later."""
        control = TopicPartition(self._topics.control, self._shard)
        end = self._tails.end_of(control, PROBE_TIMEOUT_S)
        control.offset = OFFSET_END if end is None else end
        return control

    def _on_journal_missing(self, message: Message, error: KafkaError) -> None:
        """Trimmed, or recreated: then what was read here is not what other replicas will read.

        When Kafka does not answer, the recovery finds out which of the two it is. An error of an
        earlier position, which librdkafka does not drop, ends only the fetching.
        """
        needed = self._next_offset or 0
        if (message.offset() or 0) < needed:
            reassign(self._consumer, TopicPartition(self._topics.journal, self._shard, needed))
            return
        with suppress(KafkaException):
            begin, _ = self._consumer.get_watermark_offsets(
                self._journal, timeout=BOUNDS_TIMEOUT_S, cached=False
            )
            if begin <= (self._next_offset or 0):
                raise self._missing(message, error)
        self._next_offset = None
        self._is_assigned = False  # `open_journal` must assign again, see `client.assign`
        self._arrived.append(m.JournalTrimmed())

    def _missing(self, message: Message, error: KafkaError) -> RecordsMissing:
        return RecordsMissing(
            f"{message.topic()}/{self._shard}: Kafka no longer has the records that this "
            f"shard needs next ({error.str()}); check whether the topic was trimmed or recreated"
        )

    def open_journal(self, offset: int) -> None:
        """The first call assigns all partitions: what is assigned later, or from another offset,
        would have to wait for the end of a fetch that leaves it out."""
        self._next_offset = offset
        journal = TopicPartition(self._topics.journal, self._shard, offset)
        if self._is_assigned:
            seek(self._consumer, journal)
            return
        self._is_assigned = True
        partitions = [journal, *self._sources, self._control_at_end()]
        assign(self._consumer, partitions, paused=self._sources)
        wake(self._consumer, [self._journal], PROBE_TIMEOUT_S)

    def rewind(self) -> None:
        """The journal stays assigned, and what it still delivers is dropped."""
        self._generation += 1
        self._unreported = 0
        self._arrived.clear()
        self.close_sources()
        self.close_sinks()
        self._renew_appender()
        self._next_offset = None
        self._arrived.clear()

    def probe_end(self, token: Any = None) -> None:
        """Asks the broker, on a connection where no fetch waits for records."""
        end = self._tails.end_of(self._journal, PROBE_TIMEOUT_S)
        self._arrived.append(m.JournalEnd(end, token))

    def known_end(self) -> int | None:
        """The journal's end as of the last fetch, from the cache; None when unknown."""
        _, end = self._consumer.get_watermark_offsets(self._journal, cached=True)
        return end if end >= 0 else None

    # --- sources ----------------------------------------------------------------------------

    def open_sources(self, offsets: dict[str, int]) -> None:
        """Seek, then resume: the partitions are assigned already."""
        for partition in self._sources:
            position = self._source_offsets[partition.topic] = offsets.get(partition.topic, 0)
            seek(self._consumer, TopicPartition(partition.topic, self._shard, position))
        self._sources_open, self._sources_paused = True, False
        self._consumer.resume(self._sources)

    def pause_sources(self) -> None:
        """librdkafka continues after the last record that it returned."""
        self._sources_paused = True
        self._consumer.pause(self._sources)

    def resume_sources(self) -> None:
        """Closed sources stay closed."""
        if self._sources_paused and self._sources_open:
            self._consumer.resume(self._sources)
        self._sources_paused = False

    def close_sources(self) -> None:
        """What librdkafka has fetched is dropped by the seek of the next `open_sources`."""
        if self._sources_open:
            self._consumer.pause(self._sources)
        self._sources_open = False

    # --- appending --------------------------------------------------------------------------

    def append(self, value: bytes) -> None:
        """One record, one delivery report."""
        report = partial(self._on_append, self._generation)
        self._is_appending = True
        self._unreported += 1
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
        self._unreported -= 1
        if error is None:
            self._errors.end(WRITING)
            self._arrived.append(m.AppendAcknowledged(1))
        else:
            self._fail(error.str(), is_refused=is_refusal(error))

    def _fail(self, error: str, *, is_refused: bool = False) -> None:
        self._append_failed = True
        self._errors.add(WRITING, error)
        self._arrived.append(m.AppendFailed(error, is_refused))

    def forget_appends(self) -> None:
        """After a fatal error librdkafka accepts no record: then a new producer is made."""
        self._generation += 1
        self._unreported = 0
        kept = [event for event in self._arrived if not isinstance(event, APPEND_REPORTS)]
        self._arrived = deque(kept)
        if self._append_failed:
            self._renew_appender()

    def _renew_appender(self) -> None:
        discard(self._appender)
        self._appender = make_producer(kafka_settings.journal_producer(self._kafka))
        self._append_failed = False

    def append_claim(self, value: bytes) -> None:
        """A claim that cannot be queued is dropped: the replica repeats it."""
        self._claims.append(value)

    def purge_claims(self) -> None:
        """In the queue only: what is in flight may still be appended."""
        self._claims.purge()

    # --- sinks ------------------------------------------------------------------------------

    def open_sink(self, sink: str) -> None:
        """The tails of all sinks opened in one turn are read together, by another thread.

        After a failure with a delay, see `SinkWriter.renew_if_used`.
        """
        self._open_at_s[sink] = monotonic() + self._writers[sink].renew_if_used()
        self._tails.forget(sink)

    def publish(self, sink: str, outputs: Outputs) -> None:
        """In order, with one report for all."""
        self._is_publishing = True
        self._writers[sink].write(outputs)

    def close_sinks(self) -> None:
        """New producers are made now, so that the next takeover finds them connected."""
        self._open_at_s.clear()
        for sink, writer in self._writers.items():
            self._tails.forget(sink)
            writer.renew_if_used()

    def close(self) -> None:
        """Send what is queued (a resignation), then close all clients."""
        with ExitStack() as clients:  # also when one of them has lost its brokers
            clients.callback(self._consumer.close)
            clients.callback(self._claims.close)
            clients.callback(discard, self._appender)
            for writer in self._writers.values():
                clients.callback(writer.close)
            clients.callback(self._tails.close)
            with suppress(KafkaException):  # fatal: nothing is left to wait for
                self._appender.flush(1.0)

    def _on_client_error(self, error: KafkaError) -> None:
        """After a lost connection, silence is no sign of a dead leader."""
        if error.code() in CONNECTION_LOST:
            self._arrived.append(m.JournalEnd(None))
            self._wakeup.set()


def _source_records(topic: str, run: list[Message]) -> m.SourceRecords:
    _, time_ms = run[0].timestamp()
    records = zip(map(_offset, run), map(Message.key, run), map(Message.value, run), strict=True)
    return m.SourceRecords(topic, time_ms, list(records))
