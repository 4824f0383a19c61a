"""The accepted entries in a part of the journal. Pure.

A fold from the journal's beginning would take too long for one command. A leader writes a
heartbeat ten times a second, and only the holder of an epoch writes entries of it. So the entries
of the highest epoch in a part of a second or more are the true leader's, and the usual fold that
starts at the first of them decides which later records are accepted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from postjournal.core.fold import JournalState, Verdict
from postjournal.core.records import Codec, Entry, Heartbeat

CODEC: Codec[Any] = Codec(msgspec.Raw)


@dataclass(frozen=True)
class RecordPosition:
    """The position of a record. `time_ms`: Kafka's timestamp, since the Unix epoch."""

    topic: str
    partition: int
    offset: int
    time_ms: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}@{self.offset}"


@dataclass(frozen=True)
class AcceptedEntry:
    """An accepted entry; `previous`: the accepted entry before it, None when it is unknown."""

    position: RecordPosition
    entry: Entry[Any]
    previous: Entry[Any] | None


def accepted_entries(
    records: Sequence[tuple[RecordPosition, bytes]], *, from_start: bool
) -> Iterator[AcceptedEntry]:
    """Yield the accepted entries in order. `from_start`: `records` begin where the journal does."""
    state, first = (JournalState(), 0) if from_start else _state_of_leader(records)
    previous: Entry[Any] | None = None
    for position, value in records[first:]:
        record = CODEC.decode(value)
        is_accepted = state.fold(position.offset, record, value) is Verdict.ACCEPTED
        if is_accepted and isinstance(record, Entry):
            yield AcceptedEntry(position, record, previous)
            previous = record


def _state_of_leader(
    records: Sequence[tuple[RecordPosition, bytes]],
) -> tuple[JournalState, int]:
    """The state before the first entry that is certainly the leader's, and that entry's index."""
    decoded = [CODEC.decode(value) for _, value in records]
    epochs = [record.epoch for record in decoded if isinstance(record, Entry | Heartbeat)]
    for index, record in enumerate(decoded):
        if isinstance(record, Entry) and record.epoch == max(epochs):
            state = JournalState(
                epoch=record.epoch,
                leader="the leader",
                alive_at=records[index][0].offset - 1,
                next_seq=record.seq,
                digest=record.digest_before,
            )
            return state, index
    return JournalState(), len(records)
