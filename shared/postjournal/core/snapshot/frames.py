"""How a snapshot's content is laid out: named parts, one after the other, readable by people.

    {"part":"header","length":412}⏎ 412 bytes ⏎ {"part":"state","length":…}⏎ …

The last part is `end`; it tells how many parts came before it. A content that breaks off, or goes
on after it, is damaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import msgspec

from postjournal.core.errors import SnapshotDamaged
from postjournal.core.records import UNREADABLE

Part: TypeAlias = tuple[str, bytes]
"""Name and body."""

END = "end"
LONGEST_HEAD = 200
LINE = b"\n"


class _Head(msgspec.Struct):
    part: str
    length: int


class _End(msgspec.Struct):
    parts: int


def frame(parts: Iterable[Part]) -> Iterator[bytes]:
    """The parts, and the end, as bytes."""
    count = 0
    for count, (name, body) in enumerate(parts, 1):  # noqa: B007 - the last count is used
        assert name != END
        yield _framed(name, body)
    yield _framed(END, msgspec.json.encode(_End(count)))


def _framed(name: str, body: bytes) -> bytes:
    return b"".join((msgspec.json.encode(_Head(name, len(body))), LINE, body, LINE))


class FrameReader:
    """Reads parts from chunks of any size. Raises `SnapshotDamaged`."""

    def __init__(self, chunks: Iterable[bytes], size: int) -> None:
        """`size`: of the whole content, bytes: nothing in it is believed to be larger."""
        self._chunks, self._left = iter(chunks), size
        self._buffer = b""
        self._count = 0
        self._peeked: Part | None = None

    def next(self) -> Part:
        """The next part; (`end`, …) once, when all is read and checked."""
        if self._peeked is not None:
            part, self._peeked = self._peeked, None
            return part
        name, body = self._read()
        if name == END:
            self._check_end(body)
        self._count += 1
        return name, body

    def take(self, name: str) -> Iterator[bytes]:
        """The bodies of the parts called `name` that come next, however many."""
        while True:
            part = self.next()
            if part[0] != name:
                self._peeked = part
                return
            yield part[1]

    def expect(self, name: str) -> bytes:
        """The body of the next part, which must have this name."""
        found, body = self.next()
        if found != name:
            raise SnapshotDamaged(f"the snapshot has a part {found!r} where {name!r} must be")
        return body

    def _read(self) -> Part:
        while LINE not in self._buffer:
            if len(self._buffer) > LONGEST_HEAD or not self._fill():
                raise SnapshotDamaged("the snapshot breaks off, or is no snapshot")
        line, _, rest = self._buffer.partition(LINE)
        try:
            head = msgspec.json.decode(line, type=_Head)
        except UNREADABLE as error:
            raise SnapshotDamaged(f"the snapshot's layout is damaged: {error}") from error
        self._left -= len(line) + head.length + 2
        if head.length < 0 or self._left < 0:
            raise SnapshotDamaged("the snapshot is longer than its manifest says")
        return head.part, self._body(rest, head.length)

    def _body(self, rest: bytes, length: int) -> bytes:
        pieces, have = [rest], len(rest)
        while have < length + 1:
            chunk = next(self._chunks, None)
            if chunk is None:
                raise SnapshotDamaged("the snapshot breaks off")
            pieces.append(chunk)
            have += len(chunk)
        whole = b"".join(pieces) if len(pieces) > 1 else rest
        if whole[length : length + 1] != LINE:
            raise SnapshotDamaged("the snapshot's layout is damaged")
        self._buffer = whole[length + 1 :]
        return whole[:length]

    def _fill(self) -> bool:
        chunk = next(self._chunks, None)
        self._buffer += chunk or b""
        return chunk is not None

    def _check_end(self, body: bytes) -> None:
        try:
            parts = msgspec.json.decode(body, type=_End).parts
        except UNREADABLE as error:
            raise SnapshotDamaged(f"the snapshot's end is damaged: {error}") from error
        is_more = bool(self._buffer) or any(self._chunks)
        if parts != self._count or self._left != 0 or is_more:
            raise SnapshotDamaged("the snapshot does not end where it must")
