"""Finds a command's records in Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec

from postjournal.adapters.kafka.client import TopicRecord
from postjournal.adapters.kafka.partition_reader import KafkaPartition, PartitionFinder
from postjournal.cli.trace.builder import (
    CommandTrace,
    Emitted,
    Source,
    position_of,
    tell,
    trace_id_of,
)
from postjournal.cli.trace.walk import Counted, Place, accepted
from postjournal.cluster.topics import Topics
from postjournal.config.settings import KafkaAccess
from postjournal.core.records import MAX_ID_LENGTH, UNREADABLE

FIRST_WINDOW = 20_000
"""Source records looked at first, the newest ones; each further look goes twice as far back."""

MARGINS_MS = (2_000, 60_000)
"""How long before a record what belongs to it is looked for: clocks of machines differ. The
stretch must hold some records of a leader, who writes ten a second."""

MOST = 20


class _Envelope(msgspec.Struct):
    id: str = ""


class _Output(msgspec.Struct):
    seq: int
    id: str | None = None


class Searcher:
    """Reads the topics of one system. Call `close`. All methods raise `JournalUnavailable`."""

    def __init__(self, kafka: KafkaAccess, topics: Topics) -> None:
        """Connects in the background."""
        self._topics = topics
        self._finder = PartitionFinder(kafka)
        self._envelope = msgspec.json.Decoder(_Envelope).decode
        self._output = msgspec.json.Decoder(_Output).decode

    def close(self) -> None:
        self._finder.close()

    def stories(self, wanted: str) -> list[CommandTrace]:
        """Of the command `wanted`, or of the commands of the trace with that id.

        One for each time that the command stands in a source, in the order of time; the newest
        occurrence is found first, and what lies much further back is not looked for. [] when
        there is none. Raises `ConfigurationError` when there are no such topics.
        """
        return [self._story(source) for source in self._sources(wanted)[-MOST:]]

    # --- the source -------------------------------------------------------------------------

    def _sources(self, wanted: str) -> list[Source]:
        partitions = [
            self._finder.partition(topic, shard)
            for topic in self._topics.source_topics
            for shard in range(self._finder.count(topic))
        ]
        ends = {part: part.end for part in partitions}
        window = FIRST_WINDOW
        while any(ends[part] > part.first for part in partitions):
            found: list[Source] = []
            for part in partitions:
                start = max(part.first, ends[part] - window)
                stretch = replace(part, first=start, end=ends[part])
                found += self._matches(stretch, wanted)
                ends[part] = start
            if found:
                return sorted(found, key=lambda source: source.place.time_ms)
            window *= 2
        return []

    def _matches(self, stretch: KafkaPartition, wanted: str) -> Iterator[Source]:
        needle = wanted.encode()
        is_trace = len(wanted) == 32 and set(wanted) <= set("0123456789abcdef")
        place_of_poison = f"{stretch.topic}/{stretch.number}@"
        is_place = wanted.startswith(place_of_poison)
        for record in stretch.records(stretch.first):
            parent = None
            if needle not in record.value and not is_place:
                parent = _traceparent(record) if is_trace else None
                if trace_id_of(parent) != wanted:
                    continue
            source = self._source(stretch, record)
            if source.id == wanted or parent is not None:
                yield source

    def _source(self, part: KafkaPartition, record: TopicRecord) -> Source:
        """The id is the engine's: see `StateMachine._poison`."""
        place = _place(part, record)
        try:
            found = self._envelope(record.value).id
        except UNREADABLE:
            found = ""
        usable = found if 0 < len(found) <= MAX_ID_LENGTH else str(place)
        return Source(place, usable, _traceparent(record))

    # --- the journal and the sinks ----------------------------------------------------------

    def _story(self, source: Source) -> CommandTrace:
        counted = self._entry(source)
        return tell(source, counted, self._outputs(source, counted) if counted else [])

    def _entry(self, source: Source) -> Counted | None:
        """The accepted entry that covers the source record; None: it is not decided yet."""
        journal = self._finder.partition(self._topics.journal, source.place.partition)
        for margin_ms in (*MARGINS_MS, source.place.time_ms):
            start = self._finder.offset_at(journal, source.place.time_ms - margin_ms)
            is_whole = start <= journal.first
            found = self._covering(journal, start, source, from_start=start == 0)
            if is_whole or (found is not None and found.before is not None):
                return found
        return None

    def _covering(
        self, journal: KafkaPartition, start: int, source: Source, *, from_start: bool
    ) -> Counted | None:
        place = source.place
        records: list[tuple[Place, bytes]] = []
        for record in journal.records(start):
            records.append((_place(journal, record), record.value))
            if len(records) % 4_000 == 0:
                found = _first_after(records, place, from_start=from_start)
                if found is not None:
                    return found
        return _first_after(records, place, from_start=from_start)

    def _outputs(self, source: Source, counted: Counted) -> list[Emitted]:
        return [
            output
            for sink, topic in self._topics.sink_topics.items()
            for output in self._of_sink(sink, topic, source, counted)
        ]

    def _of_sink(
        self, sink: str, topic: str, source: Source, counted: Counted
    ) -> Iterator[Emitted]:
        """Those of the entry's outputs that name the command."""
        end = counted.entry.sinks.get(sink, 0)
        first = counted.before.sinks.get(sink, 0) if counted.before else 0
        part = self._finder.partition(topic, source.place.partition)
        start = self._finder.offset_at(part, counted.place.time_ms - MARGINS_MS[0])
        copies: dict[int, list[TopicRecord]] = {}
        for record in part.records(start) if first < end else ():
            output = self._output(record.value)
            if first <= output.seq < end and output.id == source.id:
                copies.setdefault(output.seq, []).append(record)
        item_seqs = _of_item(sorted(copies), source, counted)
        for seq in item_seqs:
            value: dict[str, Any] = msgspec.json.decode(copies[seq][0].value)
            yield Emitted(sink, _place(part, copies[seq][0]), value, len(copies[seq]))


def _first_after(
    records: list[tuple[Place, bytes]], place: Place, *, from_start: bool
) -> Counted | None:
    for counted in accepted(records, from_start=from_start):
        if counted.entry.sources.get(place.topic, 0) > place.offset:
            return counted
    return None


def _of_item(seqs: list[int], source: Source, counted: Counted) -> list[int]:
    """Of a command that the batch has twice, only the outputs of this one."""
    positions = [n for n, item in enumerate(counted.entry.batch) if item.id == source.id]
    if len(positions) < 2 or len(seqs) != len(positions):
        return seqs
    return [seqs[positions.index(position_of(source, counted))]]


def _place(part: KafkaPartition, record: TopicRecord) -> Place:
    return Place(part.topic, record.partition, record.offset, record.time_ms)


def _traceparent(record: TopicRecord) -> str | None:
    for name, value in record.headers:
        if name == "traceparent" and isinstance(value, bytes):
            return value.decode("ascii", "replace")
    return None
