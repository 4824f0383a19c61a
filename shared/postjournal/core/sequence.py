"""Telling new outputs from repeated ones by their sequence. Pure: no I/O, clock or threads.

In a sink's partition the first occurrences of the sequences are dense and ascending, because a
leader begins to publish at most one past the highest sequence that the topic holds. Anything may
stand between them a second time: what a deposed leader still had under way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from postjournal.core.errors import SequenceGap

WINDOW_RECORDS = 1_000
WINDOW_MS = 1_000
"""How much of a topic is looked at, at most, before a place in its middle is trusted."""


class Position(msgspec.Struct, frozen=True):
    """Where a subscriber stands in one partition.

    `next_offset`: the record to read next; `last_seq`: the highest sequence handed out, -1 for
    none yet, None for not known (somebody else has set the offset).
    """

    next_offset: int
    last_seq: int | None


class Received(msgspec.Struct, frozen=True, gc=False):
    """One record of a sink's topic. `time`: ms since the Unix epoch, of the record."""

    topic: str
    partition: int
    offset: int
    seq: int
    value: bytes
    time: int


class Progress(msgspec.Struct, frozen=True):
    """How a subscription gets on, since it was made.

    `outputs`: handed out; `repeats`: dropped, since a deposed leader had published them again;
    `lag_records`: records in the topic that are still to be read, as far as the client knows;
    `last_seq`: partition → the highest sequence handed out; `idle_s`: since the last `poll`.
    """

    outputs: int
    repeats: int
    lag_records: int
    last_seq: dict[int, int]
    idle_s: float


class PositionStore(Protocol):
    """Where positions are kept. Implementations may raise what they like; it reaches the caller."""

    def load(self, partition: int) -> Position | None:
        """The position saved last; None when there is none."""

    def save(self, positions: Mapping[int, Position]) -> None:
        """Keep the positions (partition → position), all or none of them."""


class SequenceTracker:
    """Accepts each sequence once, and none out of order."""

    def __init__(self, topic: str, partition: int, last_seq: int = -1) -> None:
        """`last_seq`: the highest sequence accepted before; -1 for none."""
        self._topic, self._partition = topic, partition
        self.last_seq = last_seq

    def is_new(self, seq: int) -> bool:
        """True the first time; False for a repetition. Raises `SequenceGap`."""
        if seq <= self.last_seq:
            return False
        if seq != self.last_seq + 1:
            raise SequenceGap(self._topic, self._partition, self.last_seq + 1, seq)
        self.last_seq = seq
        return True


def last_before(sequences: Iterable[int]) -> int:
    """The sequence just before the newest unbroken run in a piece out of a topic's middle.

    A jump beyond the highest sequence so far shows that all before it were late repetitions:
    their successors stand before the piece.
    """
    start = highest = -1
    for seq in sequences:
        if seq > highest + 1 or highest < 0:
            start = seq
        highest = max(highest, seq)
    return start - 1


class PartitionReader:
    """Turns the records of one partition, in offset order, into outputs, each once.

    With a position it trusts that. At the topic's very first record it trusts that too. Else it
    holds records back until it has seen a window of them, since a late repetition at the start
    would otherwise make the next record look like a gap. `repeats`: how many it has dropped.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        position: Position | None = None,
        *,
        skip_until: int = 0,
        window_records: int = WINDOW_RECORDS,
        window_ms: int = WINDOW_MS,
    ) -> None:
        """`skip_until`: records below this offset tell the sequence and are not handed out."""
        self._topic, self._partition = topic, partition
        self._next_offset = position.next_offset if position else 0
        self._skip_until = skip_until
        self._window_records, self._window_ms = window_records, window_ms
        self._held: list[Received] = []
        self._held_since = 0
        self._tracker: SequenceTracker | None = None
        self.repeats = 0
        if position is not None and position.last_seq is not None:
            self._trust(position.last_seq)

    @property
    def position(self) -> Position | None:
        """The place after everything that was handed out; None while it is not known."""
        if self._tracker is None:
            return None
        return Position(self._next_offset, self._tracker.last_seq)

    def take(self, record: Received, now_ms: int) -> list[Received]:
        """What can be handed out after `record`. Raises `SequenceGap`; then the place stays."""
        if self._tracker is not None:
            return self._pass_on(self._tracker, record)
        if not self._skip_until and record.offset == 0 and record.seq == 0:
            return self._pass_on(self._trust(-1), record)
        if not self._held:
            self._held_since = now_ms
        self._held.append(record)
        return self._settle() if self._has_seen_enough() else []

    def wait_is_over(self, now_ms: int) -> list[Received]:
        """What can be handed out because the window's time is up; call it again and again."""
        due = self._held and now_ms >= self._held_since + self._window_ms
        return self._settle() if due and not self._skip_until else []

    def _has_seen_enough(self) -> bool:
        if self._skip_until:
            return self._held[-1].offset + 1 >= self._skip_until
        return len(self._held) >= self._window_records

    def _settle(self) -> list[Received]:
        held, end = self._held, self._skip_until
        self._held, self._skip_until = [], 0
        seen = [record.seq for record in held if record.offset < end]
        if end and not seen:  # retention has emptied the piece before the end
            self._held = held
            return []
        tracker = self._trust(max(seen) if end else last_before(r.seq for r in held))
        self._next_offset = end or held[0].offset
        rest = [record for record in held if record.offset >= end]
        return [new for record in rest for new in self._pass_on(tracker, record)]

    def _trust(self, last_seq: int) -> SequenceTracker:
        self._tracker = SequenceTracker(self._topic, self._partition, last_seq)
        return self._tracker

    def _pass_on(self, tracker: SequenceTracker, record: Received) -> list[Received]:
        is_new = tracker.is_new(record.seq)
        self._next_offset = record.offset + 1
        self.repeats += not is_new
        return [record] if is_new else []
