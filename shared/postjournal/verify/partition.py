"""What the auditor needs of a topic's partition."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeAlias

from postjournal.adapters.kafka.partition_reader import Chunk

Row: TypeAlias = tuple[int, bytes | None, bytes]
"""(offset, key, value)"""


class Partition(Protocol):
    """The records with `first <= offset < end`; both are fixed when the audit starts."""

    @property
    def topic(self) -> str:
        """Its full name."""

    @property
    def first(self) -> int:
        """The first offset that it still has; 0 unless retention has deleted records."""

    @property
    def end(self) -> int:
        """Exclusive."""

    def chunks(self, start: int) -> Iterator[Chunk]:
        """The records from `start` to the end, in order. May raise `JournalUnavailable`."""


class Cursor:
    """Reads a partition forwards, with a look at what comes next."""

    def __init__(self, partition: Partition, start: int = 0) -> None:
        """At the first record from `start` on; nothing is read yet."""
        self.partition = partition
        self.next_offset = start
        """After the last record that was passed."""
        self._chunks = partition.chunks(max(partition.first, start))
        self._rows: list[Row] = []
        self._at = 0

    def ahead(self, count: int) -> list[Row]:
        """The next records, up to `count`; fewer at the partition's end."""
        while len(self._rows) - self._at < count:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._rows = self._rows[self._at :]
            self._rows += zip(chunk.offsets, chunk.keys, chunk.values, strict=True)
            self._at = 0
        return self._rows[self._at : self._at + count]

    def pass_by(self, count: int) -> None:
        """Go on behind the next `count` records, which `ahead` has shown."""
        if count:
            self._at += count
            self.next_offset = self._rows[self._at - 1][0] + 1

    def skip_to(self, offset: int) -> None:
        """Go on with the first record at or after `offset`, unless it was passed already."""
        while (rows := self.ahead(1)) and rows[0][0] < offset:
            self.pass_by(1)
        self.next_offset = max(self.next_offset, offset)
