"""Finds a command's records in Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.metadata import bounds, partition_count
from postjournal.adapters.kafka.partition_reader import KafkaPartition
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
from postjournal.core.errors import ConfigurationError, JournalUnavailable
from postjournal.core.records import MAX_ID_LENGTH, UNREADABLE

ANSWER_S = 10.0
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

    def __init__(self, bootstrap: str, topics: Topics) -> None:
        """Connects in the background."""
        self._bootstrap, self._topics = bootstrap, topics
        self._consumer = Consumer(kafka_settings.audit_consumer(bootstrap) | {"log_level": 2})
        self._envelope = msgspec.json.Decoder(_Envelope).decode
        self._output = msgspec.json.Decoder(_Output).decode

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()

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
            self._partition(topic, shard)
            for topic in self._topics.source_topics
            for shard in range(self._shards(topic))
        ]
        ends = {part: part.end for part in partitions}
        window = FIRST_WINDOW
        while any(ends[part] > part.first for part in partitions):
            found: list[Source] = []
            for part in partitions:
                start = max(part.first, ends[part] - window)
                stretch = KafkaPartition(part.bootstrap, part.topic, part.number, start, ends[part])
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
        for message in self._messages(stretch, stretch.first):
            parent = None
            if needle not in (message.value() or b"") and not is_place:
                parent = _traceparent(message) if is_trace else None
                if trace_id_of(parent) != wanted:
                    continue
            source = self._source(message)
            if source.id == wanted or parent is not None:
                yield source

    def _source(self, message: Message) -> Source:
        """The id is the engine's: see `StateMachine._poison`."""
        place = _place(message)
        try:
            found = self._envelope(message.value() or b"").id
        except UNREADABLE:
            found = ""
        usable = found if 0 < len(found) <= MAX_ID_LENGTH else str(place)
        return Source(place, usable, _traceparent(message))

    # --- the journal and the sinks ----------------------------------------------------------

    def _story(self, source: Source) -> CommandTrace:
        counted = self._entry(source)
        return tell(source, counted, self._outputs(source, counted) if counted else [])

    def _entry(self, source: Source) -> Counted | None:
        """The accepted entry that covers the source record; None: it is not decided yet."""
        journal = self._partition(self._topics.journal, source.place.partition)
        for margin_ms in (*MARGINS_MS, source.place.time_ms):
            start = self._offset_at(journal, source.place.time_ms - margin_ms)
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
        for message in self._messages(journal, start):
            records.append((_place(message), message.value() or b""))
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
        part = self._partition(topic, source.place.partition)
        start = self._offset_at(part, counted.place.time_ms - MARGINS_MS[0])
        copies: dict[int, list[Message]] = {}
        for message in self._messages(part, start) if first < end else ():
            output = self._output(message.value() or b"")
            if first <= output.seq < end and output.id == source.id:
                copies.setdefault(output.seq, []).append(message)
        item_seqs = _of_item(sorted(copies), source, counted)
        for seq in item_seqs:
            value: dict[str, Any] = msgspec.json.decode(copies[seq][0].value() or b"")
            yield Emitted(sink, _place(copies[seq][0]), value, len(copies[seq]))

    # --- Kafka ------------------------------------------------------------------------------

    def _shards(self, topic: str) -> int:
        count = partition_count(self._consumer, topic, ANSWER_S)
        if count == 0:
            raise ConfigurationError(
                f"there is no topic {topic} at {self._bootstrap}: is the namespace right?"
            )
        return count

    def _partition(self, topic: str, shard: int) -> KafkaPartition:
        first, end = bounds(self._consumer, topic, shard, ANSWER_S)
        return KafkaPartition(self._bootstrap, topic, shard, first, end)

    def _offset_at(self, part: KafkaPartition, time_ms: int) -> int:
        """Of the first record that is not older; the end when there is none."""
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


def _place(message: Message) -> Place:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    return Place(topic, partition, offset, message.timestamp()[1])


def _traceparent(message: Message) -> str | None:
    headers: Any = message.headers() or ()  # a list of pairs, whatever the stubs say
    for name, value in headers:
        if name == "traceparent" and isinstance(value, bytes):
            return value.decode("ascii", "replace")
    return None
