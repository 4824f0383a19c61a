"""Which entries of a stretch of the journal count. Pure.

The fold from the journal's beginning would tell; for one command that would take too long. A
leader shows life ten times a second, and only the holder of an epoch writes entries of it. So the
entries of the highest epoch in a stretch of a second or more are the true leader's, and from the
first of them on the usual fold tells of each record whether it counts.
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
class Place:
    """A record: `time_ms` is Kafka's timestamp, since the Unix epoch."""

    topic: str
    partition: int
    offset: int
    time_ms: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}@{self.offset}"


@dataclass(frozen=True)
class Counted:
    """An accepted entry; `before`: the one that was accepted before it, where that is known."""

    place: Place
    entry: Entry[Any]
    before: Entry[Any] | None


def accepted(records: Sequence[tuple[Place, bytes]], *, from_start: bool) -> Iterator[Counted]:
    """The entries that count, in order. `from_start`: the records begin where the journal does."""
    state, first = (JournalState(), 0) if from_start else _foothold(records)
    before: Entry[Any] | None = None
    for place, value in records[first:]:
        record = CODEC.decode(value)
        is_accepted = state.fold(place.offset, record, value) is Verdict.ACCEPTED
        if is_accepted and isinstance(record, Entry):
            yield Counted(place, record, before)
            before = record


def _foothold(records: Sequence[tuple[Place, bytes]]) -> tuple[JournalState, int]:
    """The state before the first entry that is surely the leader's, and its index."""
    decoded = [CODEC.decode(value) for _, value in records]
    shown = [each.epoch for each in decoded if isinstance(each, Entry | Heartbeat)]
    for index, record in enumerate(decoded):
        if isinstance(record, Entry) and record.epoch == max(shown):
            state = JournalState(
                epoch=record.epoch,
                leader="the leader",
                alive_at=records[index][0].offset - 1,
                next_seq=record.seq,
                digest=record.digest_before,
            )
            return state, index
    return JournalState(), len(records)
