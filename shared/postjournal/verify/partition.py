"""The partition of a topic as the auditor reads it."""

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
        """The full topic name."""

    @property
    def first(self) -> int:
        """The first available offset; 0 unless retention has deleted records."""

    @property
    def end(self) -> int:
        """The offset after the last record that is audited."""

    def chunks(self, start: int) -> Iterator[Chunk]:
        """The records from `start` to the end, in order. Raises `JournalUnavailable`."""


class Cursor:
    """Reads a partition forwards and can look ahead."""

    def __init__(self, partition: Partition, start: int = 0) -> None:
        """Position at the first record from `start` on, without reading."""
        self.partition = partition
        self.next_offset = start
        """The offset after the last record that `advance` passed."""
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

    def advance(self, count: int) -> None:
        """Pass the next `count` records, which `ahead` has returned before."""
        if count:
            self._at += count
            self.next_offset = self._rows[self._at - 1][0] + 1

    def skip_to(self, offset: int) -> None:
        """Continue with the first record at or after `offset`, unless it is already passed."""
        while (rows := self.ahead(1)) and rows[0][0] < offset:
            self.advance(1)
        self.next_offset = max(self.next_offset, offset)
