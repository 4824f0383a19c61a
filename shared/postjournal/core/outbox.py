"""Outputs of one sink that are not yet known to be in its topic, and from where to publish."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum

from postjournal.core.application import Output
from postjournal.core.errors import ApplicationFaulty


class _Chunk:
    """The outputs of one entry: `first <= seq < end`. A standby makes them when asked, if ever."""

    __slots__ = ("_make", "_outputs", "end", "first")

    def __init__(self, first: int, end: int, make: Callable[[], list[Output]]) -> None:
        self.first, self.end = first, end
        self._make = make
        self._outputs: list[Output] | None = None

    def outputs(self, sink: str) -> list[Output]:
        """Numbered. Raises `ApplicationFaulty` when they are not as many as the leader's."""
        outputs = self._outputs
        if outputs is None:
            self._outputs = outputs = self._make()
            if len(outputs) != self.end - self.first:
                raise ApplicationFaulty(
                    f"sink {sink}: {len(outputs)} outputs here, {self.end - self.first} on the "
                    f"leader, from seq {self.first}; are all replicas of one version, and is the "
                    "sink a pure function of the outcome?"
                )
            for seq, output in enumerate(outputs, self.first):
                output.seq = seq
        return outputs


class Outbox:
    """What every replica keeps of one sink: a dense run of outputs ending at `next_seq`.

    Kept in the chunks in which they were made (one per entry), so that a whole entry's outputs
    are handed on and forgotten at once.
    """

    __slots__ = ("_chunks", "next_seq", "sink")

    def __init__(self, sink: str) -> None:
        """An outbox that has seen no output."""
        self.sink = sink
        self.next_seq = 0
        self._chunks: deque[_Chunk] = deque()

    def add(self, outputs: list[Output]) -> None:
        """Number the outputs of one entry and keep them."""
        self.add_later(self.next_seq + len(outputs), lambda: outputs)
        if outputs:
            self._chunks[-1].outputs(self.sink)

    def add_later(self, end: int, make: Callable[[], list[Output]]) -> None:
        """Keep the outputs of one entry, up to `end`, to be made when they are published here."""
        if end > self.next_seq:
            self._chunks.append(_Chunk(self.next_seq, end, make))
            self.next_seq = end

    def forget(self, published: int) -> None:
        """Drop the chunks that lie wholly before `published`."""
        chunks = self._chunks
        while chunks and chunks[0].end <= published:
            chunks.popleft()

    def between(self, start: int, end: int) -> list[list[Output]]:
        """The outputs with `start <= seq < end`, in chunks. Raises `ApplicationFaulty`."""
        found: deque[list[Output]] = deque()
        for chunk in reversed(self._chunks):  # what is wanted is nearly always at the end
            if chunk.end <= start:
                break
            if chunk.first >= end:
                continue
            outputs = chunk.outputs(self.sink)
            if chunk.first < start or chunk.end > end:
                outputs = outputs[max(start - chunk.first, 0) : end - chunk.first]
            found.appendleft(outputs)
        return list(found)

    def __len__(self) -> int:
        """How many outputs are kept."""
        return self.next_seq - self._chunks[0].first if self._chunks else 0


class _Phase(Enum):
    OPENING = "opening"  # the topic's tail is being read
    FIRST = "first"  # the first request is alone in flight
    FLOWING = "flowing"


class Publication:
    """One leadership's publishing to one sink: where it starts, and what is acknowledged.

    The first output is alone in flight until it is acknowledged: a fresh idempotent producer's
    first request may be lost while a second one lands, which would leave a gap for subscribers.
    """

    __slots__ = ("_outbox", "_phase", "_sent", "acknowledged", "stable")

    def __init__(self, outbox: Outbox, published: int) -> None:
        """`published`: the journal's mark. Everything in the outbox is stable at a takeover."""
        self._outbox = outbox
        self._phase = _Phase.OPENING
        self.stable = outbox.next_seq
        self.acknowledged = published
        self._sent = published

    @property
    def backlog(self) -> int:
        """Outputs decided and not acknowledged."""
        return self._outbox.next_seq - self.acknowledged

    @property
    def complete(self) -> bool:
        """Everything stable is in the topic."""
        return self._phase is not _Phase.OPENING and self.acknowledged >= self.stable

    def reopen(self) -> None:
        """The producer was replaced: nothing goes out until the tail is known."""
        self._phase = _Phase.OPENING

    def opened(self, tail: int) -> list[list[Output]]:
        """The topic's tail is known and not ahead of what is stable: what to publish now."""
        assert tail <= self.stable
        self.acknowledged = self._sent = max(self.acknowledged, tail)
        self._phase = _Phase.FIRST
        return self._first()

    def advance(self, stable: int) -> list[list[Output]]:
        """Outputs before `stable` may go out: those to publish now."""
        self.stable = stable
        if self._phase is _Phase.FLOWING:
            return self._rest()
        if self._phase is _Phase.FIRST and self._sent == self.acknowledged:
            return self._first()
        return []

    def on_acknowledged(self, next_seq: int) -> list[list[Output]]:
        """The contiguous acknowledged prefix ends at `next_seq`: what to publish now."""
        if self._phase is _Phase.OPENING:
            return []  # of the producer before
        self.acknowledged = max(self.acknowledged, next_seq)
        if self._phase is _Phase.FIRST:
            self._phase = _Phase.FLOWING
            return self._rest()
        return []

    def _first(self) -> list[list[Output]]:
        chunks = self._outbox.between(self._sent, min(self._sent + 1, self.stable))
        self._sent += len(chunks)
        return chunks

    def _rest(self) -> list[list[Output]]:
        chunks = self._outbox.between(self._sent, self.stable)
        self._sent = max(self._sent, self.stable)
        return chunks
