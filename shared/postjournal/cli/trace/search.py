"""Searches Kafka for the records of a command."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec

from postjournal.adapters.kafka.client import TopicRecord
from postjournal.adapters.kafka.partition_reader import KafkaPartition, PartitionFinder
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
from postjournal.config.settings import KafkaAccess
from postjournal.core.records import MAX_ID_LENGTH, UNREADABLE

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

    def __init__(self, kafka: KafkaAccess, topics: Topics) -> None:
        self._topics = topics
        self._finder = PartitionFinder(kafka)
        self._envelope = msgspec.json.Decoder(_Envelope).decode
        self._output = msgspec.json.Decoder(_Output).decode

    def close(self) -> None:
        self._finder.close()

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
            self._finder.partition(topic, shard)
            for topic in self._topics.source_topics
            for shard in range(self._finder.count(topic))
        ]
        ends = {part: part.end for part in partitions}
        window = FIRST_WINDOW
        while any(ends[part] > part.first for part in partitions):
            found: list[SourceRecord] = []
            for part in partitions:
                start = max(part.first, ends[part] - window)
                searched = replace(part, first=start, end=ends[part])
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
        for record in part.records(part.first):
            parent = None
            if needle not in record.value and not is_position:
                parent = _traceparent(record) if is_trace else None
                if trace_id_of(parent) != wanted:
                    continue
            source = self._source(part, record)
            if source.id == wanted or parent is not None:
                yield source

    def _source(self, part: KafkaPartition, record: TopicRecord) -> SourceRecord:
        """The id is the one that the engine uses: see `StateMachine._poison`."""
        position = _position(part, record)
        try:
            found = self._envelope(record.value).id
        except UNREADABLE:
            found = ""
        usable = found if 0 < len(found) <= MAX_ID_LENGTH else str(position)
        return SourceRecord(position, usable, _traceparent(record))

    # --- the journal and the sinks ----------------------------------------------------------

    def _trace(self, source: SourceRecord) -> CommandTrace:
        accepted = self._deciding_entry(source)
        outputs = self._outputs(source, accepted) if accepted else []
        return build_trace(source, accepted, outputs)

    def _deciding_entry(self, source: SourceRecord) -> AcceptedEntry | None:
        """The accepted entry that covers the source record; None: it is not decided yet."""
        journal = self._finder.partition(self._topics.journal, source.position.partition)
        for margin_ms in (*MARGINS_MS, source.position.time_ms):
            start = self._finder.offset_at(journal, source.position.time_ms - margin_ms)
            is_whole = start <= journal.first
            found = self._first_covering(journal, start, source, from_start=start == 0)
            if is_whole or (found is not None and found.previous is not None):
                return found
        return None

    def _first_covering(
        self, journal: KafkaPartition, start: int, source: SourceRecord, *, from_start: bool
    ) -> AcceptedEntry | None:
        records: list[tuple[RecordPosition, bytes]] = []
        for record in journal.records(start):
            records.append((_position(journal, record), record.value))
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
        part = self._finder.partition(topic, source.position.partition)
        start = self._finder.offset_at(part, accepted.position.time_ms - MARGINS_MS[0])
        copies: dict[int, list[TopicRecord]] = {}
        for record in part.records(start) if first < end else ():
            output = self._output(record.value)
            if first <= output.seq < end and output.id == source.id:
                copies.setdefault(output.seq, []).append(record)
        item_seqs = _of_item(sorted(copies), source, accepted)
        for seq in item_seqs:
            value: dict[str, Any] = msgspec.json.decode(copies[seq][0].value)
            yield PublishedOutput(sink, _position(part, copies[seq][0]), value, len(copies[seq]))


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


def _position(part: KafkaPartition, record: TopicRecord) -> RecordPosition:
    return RecordPosition(part.topic, record.partition, record.offset, record.time_ms)


def _traceparent(record: TopicRecord) -> str | None:
    for name, value in record.headers:
        if name == "traceparent" and isinstance(value, bytes):
            return value.decode("ascii", "replace")
    return None
