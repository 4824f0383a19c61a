"""The records of one sink held against the outputs that the journal gives."""

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

INDEX_EVERY = 1_024
"""For each so many sequences the offset of the first is kept: 8 bytes."""

MOST_REPEATS = 50_000
"""Repeats waiting to be compared; then they are, by reading the first ones again."""


class _Sequenced(msgspec.Struct):
    seq: int


class _Repeat(msgspec.Struct, frozen=True, gc=False):
    """A sequence seen again at `offset`."""

    seq: int
    offset: int
    digest: bytes


def _digest(value: bytes) -> bytes:
    return blake2b(value, digest_size=16).digest()


class SinkCheck:
    """Reads a sink along with the journal.

    `next_seq`: the outputs that the journal has given; `present`: the first of them that the
    topic did not hold when the audit began; `unchecked`: outputs that retention has deleted.
    """

    def __init__(self, partition: Partition, findings: Findings, start_seq: int = 0) -> None:
        """At output `start_seq`; what lies before cannot be checked."""
        self._partition, self._findings = partition, findings
        self._topic = partition.topic
        self._chunks = partition.chunks(partition.first)
        self._chunk, self._at = Chunk([], [], []), 0
        self._decode = msgspec.json.Decoder(_Sequenced).decode
        self._starts = array("q")
        self._repeats: list[_Repeat] = []
        self._gap_told_at = -1
        self._exhausted = False
        self.next_seq = self.present = self.unchecked = start_seq
        self.repeats = 0
        self._first_seq = max(self._find_first_seq() if partition.first else 0, start_seq)
        self._skip_to(start_seq)

    def expect(self, outputs: list[bytes]) -> None:
        """The next outputs, in order, as the journal gives them."""
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
        """All outputs are told: look at what is left, and at the repeats.

        Records from `settled_end` on may have been published while the audit began.
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
                text = f"seq {seq}: the journal's outputs end before {self.next_seq}"
                self._findings.add(Rule.SINK_EXPLAINED, self._topic, offset, text)
        self._settle_repeats()

    def _fill(self) -> bool:
        """Whether there is a next record."""
        while self._at >= len(self._chunk.values):
            chunk = None if self._exhausted else next(self._chunks, None)
            if chunk is None:
                self._exhausted = True
                return False
            self._chunk, self._at = chunk, 0
        return True

    def _note_found(self, seq: int, count: int) -> None:
        """Outputs `seq` to `seq + count` are the next records."""
        for wanted in range(len(self._starts) * INDEX_EVERY, seq + count, INDEX_EVERY):
            self._starts.append(self._chunk.offsets[self._at + max(wanted - seq, 0)])
        self._at += count
        self.present = seq + count

    def _compare(self, wanted_seq: int, wanted: bytes) -> int:
        """Look at one record that is not output `wanted_seq`; how many outputs that settles."""
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
            self._tell_gap(wanted_seq, seq, offset)
            return 1
        text = f"seq {seq} is {_short(value)}, the journal gives {_short(wanted)}"
        self._findings.add(Rule.SINK_CONTENT, self._topic, offset, text)
        self._note_found(seq, 1)
        return 1

    def _tell_gap(self, wanted_seq: int, seq: int, offset: int) -> None:
        """Once for each gap, and not for what retention has deleted."""
        if wanted_seq < self._first_seq:
            self.unchecked += 1
        elif self._gap_told_at != offset:
            self._gap_told_at = offset
            text = f"seq {wanted_seq} to {seq - 1} never came before seq {seq}"
            self._findings.add(Rule.SINK_DENSE, self._topic, offset, text)

    def _seq_of(self, offset: int, value: bytes) -> int | None:
        try:
            return self._decode(value).seq
        except UNREADABLE as error:
            text = f"no output ({error}): {_short(value)}"
            self._findings.add(Rule.SINK_READABLE, self._topic, offset, text)
            return None

    # --- repeats: what a deposed leader still had under way ---------------------------------------

    def _note_repeat(self, repeat: _Repeat) -> None:
        self.repeats += 1
        self._repeats.append(repeat)
        if len(self._repeats) >= MOST_REPEATS:
            self._settle_repeats()

    def _settle_repeats(self) -> None:
        """Compare the repeats with the records that came first, read again block by block."""
        blocks: dict[int, dict[int, list[_Repeat]]] = {}
        for repeat in self._repeats:
            if repeat.seq >= self._first_seq:
                block = blocks.setdefault(repeat.seq // INDEX_EVERY, {})
                block.setdefault(repeat.seq, []).append(repeat)
        self._repeats.clear()
        for number, wanted in sorted(blocks.items()):
            # A sequence beyond what was found in its place stands behind the last one that was.
            known = self._starts[: number + 1]
            self._settle_block(known[-1] if known else self._partition.first, wanted)

    def _settle_block(self, start: int, wanted: dict[int, list[_Repeat]]) -> None:
        for chunk in self._partition.chunks(start):
            for value in chunk.values:
                try:
                    repeats = wanted.pop(self._decode(value).seq, [])
                except UNREADABLE:
                    continue  # told when it was first read
                self._check_repeats(repeats, _digest(value))
            if not wanted:
                return

    def _check_repeats(self, repeats: list[_Repeat], first: bytes) -> None:
        for repeat in repeats:
            if repeat.digest != first:
                text = f"seq {repeat.seq} came before with other content"
                self._findings.add(Rule.SINK_REPEAT, self._topic, repeat.offset, text)

    # --- retention --------------------------------------------------------------------------------

    def _skip_to(self, start_seq: int) -> None:
        while start_seq and self._fill():
            with suppress(*UNREADABLE):
                if self._decode(self._chunk.values[self._at]).seq >= start_seq:
                    return
            self._at += 1

    def _find_first_seq(self) -> int:
        """The first sequence that the topic still has, behind late repeats at its beginning."""
        if self._partition.first == self._partition.end:
            return sys.maxsize  # it has none
        first = highest = -1
        count = 0
        for chunk in self._partition.chunks(self._partition.first):
            for value in chunk.values:
                with suppress(*UNREADABLE):  # told when it is compared
                    seq = self._decode(value).seq
                    first = seq if highest < 0 or seq > highest + 1 else first
                    highest = max(highest, seq)
            count += len(chunk.values)
            if count >= INDEX_EVERY:
                break
        return max(first, 0)


def _short(value: bytes) -> str:
    text = value.decode("utf-8", "replace")
    return text if len(text) <= 160 else f"{text[:157]}..."
