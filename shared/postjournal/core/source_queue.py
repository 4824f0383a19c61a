"""The source records that a leader has not decided yet."""

from __future__ import annotations

from collections import deque

from postjournal.core import messages as m
from postjournal.core.limits import Limits
from postjournal.core.records import SourceRecord

RESUME_AT = 0.1
"""Paused sources are resumed when this part of the bound is pending. Rare pauses are cheap: each
makes librdkafka drop what it has fetched, some 10,000 records, and fetch it again."""


class SourceQueue:
    """Source records in the order of their arrival; the sources are paused when it is full.

    `start`: topic → the offset from which the source was opened; `commands`: how many are pending.
    """

    def __init__(self, start: dict[str, int], limits: Limits) -> None:
        self.start = start
        self.commands = 0
        self._limits = limits
        self._pending: deque[m.SourceRecords] = deque()
        self._bytes = 0
        self._next_offsets = dict(start)
        self._is_paused = False

    def put(self, arrived: m.SourceRecords) -> list[m.Effect]:
        """Append what was not delivered before; return PauseSources when the bound is reached."""
        topic, records = arrived.topic, arrived.records
        next_offset = self._next_offsets.get(topic, 0)
        if records[0][0] < next_offset:  # delivered again
            records = [record for record in records if record[0] >= next_offset]
        if not records:
            return []
        self._next_offsets[topic] = records[-1][0] + 1
        self._pending.append(m.SourceRecords(topic, arrived.time_ms, records))
        self.commands += len(records)
        self._bytes += _size(records)
        if self._is_paused or not self._exceeds(1.0):
            return []
        self._is_paused = True
        return [m.PauseSources()]

    def resume(self) -> list[m.Effect]:
        """Return ResumeSources when the sources are paused and little is pending."""
        if not self._is_paused or self._exceeds(RESUME_AT):
            return []
        self._is_paused = False
        return [m.ResumeSources()]

    def _exceeds(self, part: float) -> bool:
        """Whether at least this part of the bound is pending."""
        limits = self._limits
        return (
            self.commands >= limits.pending_commands * part
            or self._bytes >= limits.pending_bytes * part
        )

    def take_batch(self) -> list[m.SourceRecords]:
        """Remove up to `batch_commands` records, and up to `batch_bytes` if more than one."""
        limits = self._limits
        batch: list[m.SourceRecords] = []
        left, left_bytes = limits.batch_commands, limits.batch_bytes
        while self._pending and left > 0:
            waiting = self._pending.popleft()
            taken = waiting.records[:left]
            size = _size(taken)
            if size > left_bytes:
                taken = _prefix_within(taken, left_bytes, at_least=0 if batch else 1)
                left, size = len(taken), _size(taken)  # full
            if len(taken) < len(waiting.records):
                waiting.records = waiting.records[len(taken) :]
                self._pending.appendleft(waiting)
            if taken:
                batch.append(m.SourceRecords(waiting.topic, waiting.time_ms, taken))
            left -= len(taken)
            left_bytes -= size
            self._bytes -= size
        self.commands -= sum(len(arrived.records) for arrived in batch)
        return batch

    def put_back(self, batch: list[m.SourceRecords], decided: int) -> None:
        """Put what of `batch` was not decided back to the front."""
        left = sum([len(arrived.records) for arrived in batch]) - decided
        for arrived in reversed(batch):
            if left <= 0:
                return
            rest = arrived.records[-left:]
            self._pending.appendleft(m.SourceRecords(arrived.topic, arrived.time_ms, rest))
            self.commands += len(rest)
            self._bytes += _size(rest)
            left -= len(rest)


def _size(records: list[SourceRecord]) -> int:
    return sum([len(value or b"") for _, _, value in records])


def _prefix_within(
    records: list[SourceRecord], left_bytes: int, at_least: int
) -> list[SourceRecord]:
    taken = 0
    for record in records:
        left_bytes -= len(record[2] or b"")
        if left_bytes < 0 and taken >= at_least:
            break
        taken += 1
    return records[:taken]
