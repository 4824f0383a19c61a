"""How a subscriber distinguishes new outputs from repeated ones: by their sequence.

In a sink's partition the first occurrences of the sequences are dense and ascending, because a
leader begins to publish at most one past the highest sequence that the topic holds. Between them
any of them may be repeated: records that a deposed leader still had in flight.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from postjournal.core.errors import SequenceGap

WINDOW_RECORDS = 1_000
WINDOW_MS = 1_000
"""How much of a topic is read, at most, before a position in its middle is trusted."""


class Position(msgspec.Struct, frozen=True):
    """A subscriber's position in one partition.

    `next_offset`: the record to read next; `last_seq`: the highest sequence returned, -1: none
    yet, None: unknown (another program has set the offset).
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
    """The counters of a subscription since it was created.

    `outputs`: returned; `repeats`: dropped, since a deposed leader had published them again;
    `lag_records`: records in the topic that are not yet read, as far as the client knows;
    `last_seq`: partition → the highest sequence returned; `idle_s`: since the last `poll`.
    """

    outputs: int
    repeats: int
    lag_records: int
    last_seq: dict[int, int]
    idle_s: float


class PositionStore(Protocol):
    """Where a subscriber's positions are stored. Whatever it raises reaches the caller."""

    def load(self, partition: int) -> Position | None:
        """Return the position saved last, or None."""

    def save(self, positions: Mapping[int, Position]) -> None:
        """Store the positions (partition → position), all or none of them."""


class SequenceTracker:
    """Accepts each sequence once, and none out of order.

    `last_seq`: the highest sequence accepted so far, -1: none.
    """

    def __init__(self, topic: str, partition: int, last_seq: int = -1) -> None:
        self._topic, self._partition = topic, partition
        self.last_seq = last_seq

    def is_new(self, seq: int) -> bool:
        """Return True for the next sequence, False for a repeat. Raises `SequenceGap`."""
        if seq <= self.last_seq:
            return False
        if seq != self.last_seq + 1:
            raise SequenceGap(self._topic, self._partition, self.last_seq + 1, seq)
        self.last_seq = seq
        return True


def last_before(sequences: Iterable[int]) -> int:
    """Return the sequence just before the newest unbroken run in a window of a topic.

    A jump beyond the highest sequence so far proves that everything before it was a late repeat:
    the records in between are before the window.
    """
    start = highest = -1
    for seq in sequences:
        if seq > highest + 1 or highest < 0:
            start = seq
        highest = max(highest, seq)
    return start - 1


class PartitionReader:
    """Turns the records of one partition, in offset order, into outputs, each once.

    It trusts a given position, and the topic's very first record. Else it buffers records until
    it has read a window of them, since a late repeat at the start would make the next record look
    like a gap. `repeats`: how many it has dropped; `skip_until`: records below this offset only
    determine the sequence and are not returned.
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
        self._topic, self._partition = topic, partition
        self._next_offset = position.next_offset if position else 0
        self._skip_until = skip_until
        self._window_records, self._window_ms = window_records, window_ms
        self._buffer: list[Received] = []
        self._buffered_since_ms = 0
        self._tracker: SequenceTracker | None = None
        self.repeats = 0
        if position is not None and position.last_seq is not None:
            self._trust(position.last_seq)

    @property
    def position(self) -> Position | None:
        """The position after everything that was returned; None while it is unknown."""
        if self._tracker is None:
            return None
        return Position(self._next_offset, self._tracker.last_seq)

    def take(self, record: Received, now_ms: int) -> list[Received]:
        """Return the outputs that `record` completes. Raises `SequenceGap`; the position stays."""
        if self._tracker is not None:
            return self._accept(self._tracker, record)
        if not self._skip_until and record.offset == 0 and record.seq == 0:
            return self._accept(self._trust(-1), record)
        if not self._buffer:
            self._buffered_since_ms = now_ms
        self._buffer.append(record)
        return self._settle() if self._is_window_complete() else []

    def expire(self, now_ms: int) -> list[Received]:
        """Return the outputs of a window that has timed out; to be called repeatedly."""
        due = self._buffer and now_ms >= self._buffered_since_ms + self._window_ms
        return self._settle() if due and not self._skip_until else []

    def _is_window_complete(self) -> bool:
        if self._skip_until:
            return self._buffer[-1].offset + 1 >= self._skip_until
        return len(self._buffer) >= self._window_records

    def _settle(self) -> list[Received]:
        buffer, end = self._buffer, self._skip_until
        self._buffer, self._skip_until = [], 0
        seen = [record.seq for record in buffer if record.offset < end]
        if end and not seen:  # retention has deleted the records below the end
            self._buffer = buffer
            return []
        tracker = self._trust(max(seen) if end else last_before(r.seq for r in buffer))
        self._next_offset = end or buffer[0].offset
        rest = [record for record in buffer if record.offset >= end]
        return [new for record in rest for new in self._accept(tracker, record)]

    def _trust(self, last_seq: int) -> SequenceTracker:
        self._tracker = SequenceTracker(self._topic, self._partition, last_seq)
        return self._tracker

    def _accept(self, tracker: SequenceTracker, record: Received) -> list[Received]:
        is_new = tracker.is_new(record.seq)
        self._next_offset = record.offset + 1
        self.repeats += not is_new
        return [record] if is_new else []
