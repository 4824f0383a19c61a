"""Searches Kafka for the records of a command."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.metadata import bounds, partition_count
from postjournal.adapters.kafka.partition_reader import KafkaPartition
from postjournal.cli.trace.accepted_entries import (
    AcceptedEntry,
    RecordPosition,
    accepted_entries,
)
from postjournal.cli.trace.builder import (
    CommandTrace,
    PublishedOutput,
    SourceRecord,
    build_trace,
    index_in_batch,
    trace_id_of,
)
from postjournal.cluster.topics import Topics
from postjournal.core.errors import ConfigurationError, JournalUnavailable
from postjournal.core.records import MAX_ID_LENGTH, UNREADABLE

ANSWER_S = 10.0
FIRST_WINDOW = 20_000
"""The newest source records are searched first; each further window is twice as long."""

MARGINS_MS = (2_000, 60_000)
"""How long before a record the search for related records starts: clocks of machines differ. The
part of the journal must contain records of a leader, which writes ten a second."""

MAX_TRACES = 20
READ_CHUNK = 4_000
"""Journal records to read before the entry is searched among them."""


class _Envelope(msgspec.Struct):
    id: str = ""


class _Output(msgspec.Struct):
    seq: int
    id: str | None = None


class Searcher:
    """Reads the topics of one system. Call `close`. Methods raise `JournalUnavailable`."""

    def __init__(self, bootstrap: str, topics: Topics) -> None:
        self._bootstrap, self._topics = bootstrap, topics
        self._consumer = Consumer(kafka_settings.audit_consumer(bootstrap) | {"log_level": 2})
        self._envelope = msgspec.json.Decoder(_Envelope).decode
        self._output = msgspec.json.Decoder(_Output).decode

    def close(self) -> None:
        self._consumer.close()

    def traces(self, wanted: str) -> list[CommandTrace]:
        """Return the traces of the command `wanted`, or of the commands of the trace `wanted`.

        There is one for each occurrence in a source, at most 20, oldest first; [] when there is
        none. The search ends at the window of the newest occurrence, so much older ones are not
        found. Raises `ConfigurationError` when the topics do not exist.
        """
        return [self._trace(source) for source in self._sources(wanted)[-MAX_TRACES:]]

    # --- the source -------------------------------------------------------------------------

    def _sources(self, wanted: str) -> list[SourceRecord]:
        partitions = [
            self._partition(topic, shard)
            for topic in self._topics.source_topics
            for shard in range(self._shards(topic))
        ]
        ends = {part: part.end for part in partitions}
        window = FIRST_WINDOW
        while any(ends[part] > part.first for part in partitions):
            found: list[SourceRecord] = []
            for part in partitions:
                start = max(part.first, ends[part] - window)
                searched = KafkaPartition(
                    part.bootstrap, part.topic, part.number, start, ends[part]
                )
                found += self._matches(searched, wanted)
                ends[part] = start
            if found:
                return sorted(found, key=lambda source: source.position.time_ms)
            window *= 2
        return []

    def _matches(self, part: KafkaPartition, wanted: str) -> Iterator[SourceRecord]:
        needle = wanted.encode()
        is_trace = len(wanted) == 32 and set(wanted) <= set("0123456789abcdef")
        # The id of a record that cannot be decoded is its position.
        is_position = wanted.startswith(f"{part.topic}/{part.number}@")
        for message in self._messages(part, part.first):
            parent = None
            if needle not in (message.value() or b"") and not is_position:
                parent = _traceparent(message) if is_trace else None
                if trace_id_of(parent) != wanted:
                    continue
            source = self._source(message)
            if source.id == wanted or parent is not None:
                yield source

    def _source(self, message: Message) -> SourceRecord:
        """The id is the one that the engine uses: see `StateMachine._poison`."""
        position = _position(message)
        try:
            found = self._envelope(message.value() or b"").id
        except UNREADABLE:
            found = ""
        usable = found if 0 < len(found) <= MAX_ID_LENGTH else str(position)
        return SourceRecord(position, usable, _traceparent(message))

    # --- the journal and the sinks ----------------------------------------------------------

    def _trace(self, source: SourceRecord) -> CommandTrace:
        accepted = self._deciding_entry(source)
        outputs = self._outputs(source, accepted) if accepted else []
        return build_trace(source, accepted, outputs)

    def _deciding_entry(self, source: SourceRecord) -> AcceptedEntry | None:
        """The accepted entry that covers the source record; None: it is not decided yet."""
        journal = self._partition(self._topics.journal, source.position.partition)
        for margin_ms in (*MARGINS_MS, source.position.time_ms):
            start = self._offset_at(journal, source.position.time_ms - margin_ms)
            is_whole = start <= journal.first
            found = self._first_covering(journal, start, source, from_start=start == 0)
            if is_whole or (found is not None and found.previous is not None):
                return found
        return None

    def _first_covering(
        self, journal: KafkaPartition, start: int, source: SourceRecord, *, from_start: bool
    ) -> AcceptedEntry | None:
        records: list[tuple[RecordPosition, bytes]] = []
        for message in self._messages(journal, start):
            records.append((_position(message), message.value() or b""))
            if len(records) % READ_CHUNK == 0:
                found = _covering_entry(records, source.position, from_start=from_start)
                if found is not None:
                    return found
        return _covering_entry(records, source.position, from_start=from_start)

    def _outputs(self, source: SourceRecord, accepted: AcceptedEntry) -> list[PublishedOutput]:
        return [
            output
            for sink, topic in self._topics.sink_topics.items()
            for output in self._of_sink(sink, topic, source, accepted)
        ]

    def _of_sink(
        self, sink: str, topic: str, source: SourceRecord, accepted: AcceptedEntry
    ) -> Iterator[PublishedOutput]:
        """The entry's outputs that name the command."""
        end = accepted.entry.sinks.get(sink, 0)
        first = accepted.previous.sinks.get(sink, 0) if accepted.previous else 0
        part = self._partition(topic, source.position.partition)
        start = self._offset_at(part, accepted.position.time_ms - MARGINS_MS[0])
        copies: dict[int, list[Message]] = {}
        for message in self._messages(part, start) if first < end else ():
            output = self._output(message.value() or b"")
            if first <= output.seq < end and output.id == source.id:
                copies.setdefault(output.seq, []).append(message)
        item_seqs = _of_item(sorted(copies), source, accepted)
        for seq in item_seqs:
            value: dict[str, Any] = msgspec.json.decode(copies[seq][0].value() or b"")
            yield PublishedOutput(sink, _position(copies[seq][0]), value, len(copies[seq]))

    # --- Kafka ------------------------------------------------------------------------------

    def _shards(self, topic: str) -> int:
        count = partition_count(self._consumer, topic, ANSWER_S)
        if count == 0:
            raise ConfigurationError(
                f"there is no topic {topic} at {self._bootstrap}: check --namespace"
            )
        return count

    def _partition(self, topic: str, shard: int) -> KafkaPartition:
        first, end = bounds(self._consumer, topic, shard, ANSWER_S)
        return KafkaPartition(self._bootstrap, topic, shard, first, end)

    def _offset_at(self, part: KafkaPartition, time_ms: int) -> int:
        """The offset of the first record that is not older; the end when there is none."""
        asked = TopicPartition(part.topic, part.number, max(time_ms, 0))
        try:
            found = self._consumer.offsets_for_times([asked], timeout=ANSWER_S)[0]
        except KafkaException as error:
            raise JournalUnavailable(f"{part.topic}: {error.args[0].str()}") from error
        return found.offset if found.offset >= 0 else part.end

    def _messages(self, part: KafkaPartition, start: int) -> Iterator[Message]:
        for messages in part.messages(start):
            for message in messages:
                if (message.offset() or 0) < part.end:
                    yield message


def _covering_entry(
    records: list[tuple[RecordPosition, bytes]], position: RecordPosition, *, from_start: bool
) -> AcceptedEntry | None:
    for accepted in accepted_entries(records, from_start=from_start):
        if accepted.entry.sources.get(position.topic, 0) > position.offset:
            return accepted
    return None


def _of_item(seqs: list[int], source: SourceRecord, accepted: AcceptedEntry) -> list[int]:
    """Of a command that the batch has twice, only the outputs of this occurrence."""
    indexes = [n for n, item in enumerate(accepted.entry.batch) if item.id == source.id]
    if len(indexes) < 2 or len(seqs) != len(indexes):
        return seqs
    return [seqs[indexes.index(index_in_batch(source, accepted))]]


def _position(message: Message) -> RecordPosition:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    return RecordPosition(topic, partition, offset, message.timestamp()[1])


def _traceparent(message: Message) -> str | None:
    headers: Any = message.headers() or ()  # a list of pairs, unlike its type stub
    for name, value in headers:
        if name == "traceparent" and isinstance(value, bytes):
            return value.decode("ascii", "replace")
    return None
