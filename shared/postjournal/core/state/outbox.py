"""The outputs of one sink that are not yet known to be in its topic, and their publication."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from postjournal.core.errors import ApplicationFaulty


@dataclass(frozen=True, slots=True)
class Outputs:
    """A dense run of encoded outputs: `values[i]` has the sequence `first + i`."""

    first: int
    values: list[bytes]

    @property
    def end(self) -> int:
        """The sequence after the last output's."""
        return self.first + len(self.values)

    def between(self, start: int, end: int) -> Outputs:
        """Return the outputs with `start <= seq < end`; `self` when these are all."""
        if start <= self.first and end >= self.end:
            return self
        start = max(start, self.first)
        return Outputs(start, self.values[start - self.first : max(end - self.first, 0)])


class _Chunk:
    """The outputs of one entry: `first <= seq < end`. A standby creates them only on demand."""

    __slots__ = ("_make", "_outputs", "end", "first")

    def __init__(self, first: int, end: int, make: Callable[[int], Outputs]) -> None:
        self.first, self.end = first, end
        self._make = make
        self._outputs: Outputs | None = None

    def outputs(self, sink: str) -> Outputs:
        """Create the outputs, or return those created before. Raises as `peek`."""
        if self._outputs is None:
            self._outputs = self.peek(sink)
        return self._outputs

    def peek(self, sink: str) -> Outputs:
        """Return the outputs without keeping them.

        Raises `ApplicationFaulty` when their number differs from the leader's.
        """
        if self._outputs is not None:
            return self._outputs
        outputs = self._make(self.first)
        if outputs.end != self.end:
            raise ApplicationFaulty(
                f"sink {sink}: {len(outputs.values)} outputs here, {self.end - self.first} on "
                f"the leader, from seq {self.first}. Do all replicas run the same version, and is "
                "the sink a pure function of the outcome?"
            )
        return outputs


class Outbox:
    """One sink's outputs on one replica: a dense run that ends at `next_seq`.

    Stored in the chunks in which they were created, one per entry, so that a whole entry's
    outputs are passed on and dropped at once.
    """

    __slots__ = ("_chunks", "next_seq", "sink")

    def __init__(self, sink: str) -> None:
        self.sink = sink
        self.next_seq = 0
        self._chunks: deque[_Chunk] = deque()

    def resume(self, outputs: Outputs) -> None:
        """Start with the unpublished outputs of a snapshot; there may be none."""
        assert not self._chunks
        self.next_seq = outputs.first
        self.add(outputs)

    def add(self, outputs: Outputs) -> None:
        """Append the outputs of one entry; they begin at `next_seq`."""
        assert outputs.first == self.next_seq
        self.add_later(outputs.end, lambda _: outputs)

    def add_later(self, end: int, make: Callable[[int], Outputs]) -> None:
        """Append one entry's outputs, up to `end`: `make(first)` creates them on demand."""
        if end > self.next_seq:
            self._chunks.append(_Chunk(self.next_seq, end, make))
            self.next_seq = end

    def forget(self, published: int) -> None:
        """Drop the chunks that lie wholly before `published`."""
        chunks = self._chunks
        while chunks and chunks[0].end <= published:
            chunks.popleft()

    def unpublished(self, start: int) -> Iterator[Outputs]:
        """Return the outputs from `start` on without keeping them. Raises as `between`."""
        for chunk in self._chunks:
            if chunk.end > start:
                yield chunk.peek(self.sink).between(start, chunk.end)

    def between(self, start: int, end: int) -> list[Outputs]:
        """Return the outputs with `start <= seq < end`, in chunks. Raises `ApplicationFaulty`."""
        found: deque[Outputs] = deque()
        for chunk in reversed(self._chunks):  # requests are nearly always for the end
            if chunk.end <= start or start >= end:
                break
            if chunk.first < end:
                found.appendleft(chunk.outputs(self.sink).between(start, end))
        return list(found)

    def __len__(self) -> int:
        return self.next_seq - self._chunks[0].first if self._chunks else 0


class _Phase(Enum):
    OPENING = "opening"  # the topic's tail is being read
    FIRST = "first"  # the first request is alone in flight
    FLOWING = "flowing"


class Publication:
    """One leadership's publishing to one sink: where it starts, and what is acknowledged.

    `published`: the journal's mark. Everything in the outbox is stable at a takeover.

    The first output is alone in flight until it is acknowledged: a fresh idempotent producer's
    first request may be lost while a second one lands, which would leave a gap for subscribers.
    """

    __slots__ = ("_outbox", "_phase", "_sent", "acknowledged", "stable")

    def __init__(self, outbox: Outbox, published: int) -> None:
        self._outbox = outbox
        self._phase = _Phase.OPENING
        self.stable = outbox.next_seq
        self.acknowledged = published
        self._sent = published

    @property
    def backlog(self) -> int:
        """The number of outputs decided and not acknowledged."""
        return self._outbox.next_seq - self.acknowledged

    @property
    def complete(self) -> bool:
        """Whether every stable output is in the topic."""
        return self._phase is not _Phase.OPENING and self.acknowledged >= self.stable

    def reopen(self) -> None:
        """The producer was replaced: publish nothing until the tail is known."""
        self._phase = _Phase.OPENING

    def opened(self, tail: int) -> list[Outputs]:
        """The topic's tail is known and not ahead of what is stable; return what to publish now."""
        assert tail <= self.stable
        self.acknowledged = self._sent = max(self.acknowledged, tail)
        self._phase = _Phase.FIRST
        return self._first()

    def advance(self, stable: int) -> list[Outputs]:
        """Outputs before `stable` may be published; return those to publish now."""
        self.stable = stable
        if self._phase is _Phase.FLOWING:
            return self._rest()
        if self._phase is _Phase.FIRST and self._sent == self.acknowledged:
            return self._first()
        return []

    def on_acknowledged(self, next_seq: int) -> list[Outputs]:
        """The contiguous acknowledged prefix ends at `next_seq`; return what to publish now."""
        if self._phase is _Phase.OPENING:
            return []  # a report of the previous producer
        self.acknowledged = max(self.acknowledged, next_seq)
        if self._phase is _Phase.FIRST:
            self._phase = _Phase.FLOWING
            return self._rest()
        return []

    def _first(self) -> list[Outputs]:
        chunks = self._outbox.between(self._sent, min(self._sent + 1, self.stable))
        self._sent += len(chunks)
        return chunks

    def _rest(self) -> list[Outputs]:
        chunks = self._outbox.between(self._sent, self.stable)
        self._sent = max(self._sent, self.stable)
        return chunks
