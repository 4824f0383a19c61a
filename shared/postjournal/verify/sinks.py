"""Compares the records of one sink with the outputs that follow from the journal."""

from __future__ import annotations

import sys
from array import array
from contextlib import suppress
from hashlib import blake2b

import msgspec

from postjournal.adapters.kafka.partition_reader import Chunk
from postjournal.core.records import UNREADABLE
from postjournal.verify.partition import Partition
from postjournal.verify.rules import Findings, Rule

INDEX_INTERVAL = 1_024
"""The offset of every so many-th sequence is kept: 8 bytes each."""

MAX_PENDING_REPEATS = 50_000
"""So many repeats are collected before the first records are read again to compare them."""


class _Sequenced(msgspec.Struct):
    seq: int


class _Repeat(msgspec.Struct, frozen=True, gc=False):
    """A sequence that appears again, at `offset`."""

    seq: int
    offset: int
    digest: bytes


def _digest(value: bytes) -> bytes:
    return blake2b(value, digest_size=16).digest()


class SinkCheck:
    """Reads a sink in step with the journal.

    `next_seq`: how many outputs the journal has produced; `present`: the end of those that the
    topic held when the audit started; `unchecked`: how many outputs retention has deleted;
    `repeats`: how many records came again.
    """

    def __init__(self, partition: Partition, findings: Findings, start_seq: int = 0) -> None:
        """Start at output `start_seq`; the outputs before it cannot be checked."""
        self._partition, self._findings = partition, findings
        self._topic = partition.topic
        self._chunks = partition.chunks(partition.first)
        self._chunk, self._at = Chunk([], [], []), 0
        self._decode = msgspec.json.Decoder(_Sequenced).decode
        self._starts = array("q")
        self._repeats: list[_Repeat] = []
        self._reported_gap_offset = -1
        self._exhausted = False
        self.next_seq = self.present = self.unchecked = start_seq
        self.repeats = 0
        self._first_seq = max(self._find_first_seq() if partition.first else 0, start_seq)
        self._skip_to(start_seq)

    def expect(self, outputs: list[bytes]) -> None:
        """Compare the next outputs, in order, with the topic's next records."""
        i, count = 0, len(outputs)
        first_seq, self.next_seq = self.next_seq, self.next_seq + count
        if self.next_seq <= self._first_seq:
            self.unchecked += count
            return
        while i < count:
            if not self._fill():
                return
            run = min(count - i, len(self._chunk.values) - self._at)
            if self._chunk.values[self._at : self._at + run] == outputs[i : i + run]:
                self._note_found(first_seq + i, run)
                i += run
            else:
                i += self._compare(first_seq + i, outputs[i])

    def finish(self, settled_end: int) -> None:
        """Check the remaining records and the repeats, after the last output.

        Records from `settled_end` on may have been published while the audit started.
        """
        while self._fill():
            offset, value = self._chunk.offsets[self._at], self._chunk.values[self._at]
            self._at += 1
            seq = self._seq_of(offset, value)
            if seq is None:
                continue
            if seq < self.next_seq:
                self._note_repeat(_Repeat(seq, offset, _digest(value)))
            elif offset < settled_end:
                text = f"seq {seq}, but the journal's outputs end at {self.next_seq}"
                self._findings.add(Rule.SINK_EXPLAINED, self._topic, offset, text)
        self._compare_repeats()

    def _fill(self) -> bool:
        """Read on if needed; whether there is a next record."""
        while self._at >= len(self._chunk.values):
            chunk = None if self._exhausted else next(self._chunks, None)
            if chunk is None:
                self._exhausted = True
                return False
            self._chunk, self._at = chunk, 0
        return True

    def _note_found(self, seq: int, count: int) -> None:
        """Pass the next records: they are the outputs `seq` to `seq + count`."""
        for wanted in range(len(self._starts) * INDEX_INTERVAL, seq + count, INDEX_INTERVAL):
            self._starts.append(self._chunk.offsets[self._at + max(wanted - seq, 0)])
        self._at += count
        self.present = seq + count

    def _compare(self, wanted_seq: int, wanted: bytes) -> int:
        """Handle one record that may not be output `wanted_seq`.

        Returns how many outputs are done with: 0 or 1.
        """
        offset, value = self._chunk.offsets[self._at], self._chunk.values[self._at]
        if value == wanted:
            self._note_found(wanted_seq, 1)
            return 1
        seq = self._seq_of(offset, value)
        if seq is None or seq < wanted_seq:
            self._at += 1
            if seq is not None:
                self._note_repeat(_Repeat(seq, offset, _digest(value)))
            return 0
        if seq > wanted_seq:
            self._note_gap(wanted_seq, seq, offset)
            return 1
        text = f"seq {seq} is {_short(value)}, expected {_short(wanted)}"
        self._findings.add(Rule.SINK_CONTENT, self._topic, offset, text)
        self._note_found(seq, 1)
        return 1

    def _note_gap(self, wanted_seq: int, seq: int, offset: int) -> None:
        """Report each gap once, except for outputs that retention has deleted."""
        if wanted_seq < self._first_seq:
            self.unchecked += 1
        elif self._reported_gap_offset != offset:
            self._reported_gap_offset = offset
            text = f"seq {wanted_seq} to {seq - 1} are missing before seq {seq}"
            self._findings.add(Rule.SINK_DENSE, self._topic, offset, text)

    def _seq_of(self, offset: int, value: bytes) -> int | None:
        try:
            return self._decode(value).seq
        except UNREADABLE as error:
            text = f"not an output ({error}): {_short(value)}"
            self._findings.add(Rule.SINK_READABLE, self._topic, offset, text)
            return None

    # --- repeats: a deposed leader may still have had publications in flight ----------------------

    def _note_repeat(self, repeat: _Repeat) -> None:
        self.repeats += 1
        self._repeats.append(repeat)
        if len(self._repeats) >= MAX_PENDING_REPEATS:
            self._compare_repeats()

    def _compare_repeats(self) -> None:
        """Compare the repeats with the first records, which are read again block by block."""
        blocks: dict[int, dict[int, list[_Repeat]]] = {}
        for repeat in self._repeats:
            if repeat.seq >= self._first_seq:
                block = blocks.setdefault(repeat.seq // INDEX_INTERVAL, {})
                block.setdefault(repeat.seq, []).append(repeat)
        self._repeats.clear()
        for number, wanted in sorted(blocks.items()):
            # A sequence beyond the index is behind the last indexed one.
            indexed = self._starts[: number + 1]
            self._compare_block(indexed[-1] if indexed else self._partition.first, wanted)

    def _compare_block(self, start: int, wanted: dict[int, list[_Repeat]]) -> None:
        for chunk in self._partition.chunks(start):
            for value in chunk.values:
                try:
                    repeats = wanted.pop(self._decode(value).seq, [])
                except UNREADABLE:
                    continue  # reported when it was read first
                self._report_different(repeats, _digest(value))
            if not wanted:
                return

    def _report_different(self, repeats: list[_Repeat], first: bytes) -> None:
        for repeat in repeats:
            if repeat.digest != first:
                text = f"seq {repeat.seq} appeared before with different content"
                self._findings.add(Rule.SINK_REPEAT, self._topic, repeat.offset, text)

    # --- retention --------------------------------------------------------------------------------

    def _skip_to(self, start_seq: int) -> None:
        while start_seq and self._fill():
            with suppress(*UNREADABLE):
                if self._decode(self._chunk.values[self._at]).seq >= start_seq:
                    return
            self._at += 1

    def _find_first_seq(self) -> int:
        """The first sequence that the topic still has, without late repeats at its beginning."""
        if self._partition.first == self._partition.end:
            return sys.maxsize  # the topic is empty
        first = highest = -1
        count = 0
        for chunk in self._partition.chunks(self._partition.first):
            for value in chunk.values:
                with suppress(*UNREADABLE):  # reported when it is compared
                    seq = self._decode(value).seq
                    first = seq if highest < 0 or seq > highest + 1 else first
                    highest = max(highest, seq)
            count += len(chunk.values)
            if count >= INDEX_INTERVAL:
                break
        return max(first, 0)


def _short(value: bytes) -> str:
    text = value.decode("utf-8", "replace")
    return text if len(text) <= 160 else f"{text[:157]}..."
