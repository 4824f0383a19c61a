"""The layout of a snapshot's content: named parts, one after the other.

    {"part":"header","length":412}⏎ 412 bytes ⏎ {"part":"state","length":…}⏎ …

The last part is `end`, with the number of parts before it. Content that ends before it, or
continues after it, is damaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import msgspec

from postjournal.core.errors import SnapshotDamaged
from postjournal.core.records import UNREADABLE

Part: TypeAlias = tuple[str, bytes]
"""A part's name and body."""

END = "end"
LONGEST_HEAD = 200
LINE = b"\n"


class _Head(msgspec.Struct):
    part: str
    length: int


class _End(msgspec.Struct):
    parts: int


def frame(parts: Iterable[Part]) -> Iterator[bytes]:
    """Return the parts, followed by the end part, as bytes."""
    count = 0
    for count, (name, body) in enumerate(parts, 1):  # noqa: B007 - the last count is used
        assert name != END
        yield _framed(name, body)
    yield _framed(END, msgspec.json.encode(_End(count)))


def _framed(name: str, body: bytes) -> bytes:
    return b"".join((msgspec.json.encode(_Head(name, len(body))), LINE, body, LINE))


class FrameReader:
    """Reads parts from chunks of any size. Raises `SnapshotDamaged`.

    `size`: of the whole content in bytes; no length in it is trusted beyond that.
    """

    def __init__(self, chunks: Iterable[bytes], size: int) -> None:
        self._chunks, self._left = iter(chunks), size
        self._buffer = b""
        self._count = 0
        self._peeked: Part | None = None

    def next(self) -> Part:
        """Return the next part; (`end`, …) once, when all is read and checked."""
        if self._peeked is not None:
            part, self._peeked = self._peeked, None
            return part
        name, body = self._read()
        if name == END:
            self._check_end(body)
        self._count += 1
        return name, body

    def take(self, name: str) -> Iterator[bytes]:
        """Return the bodies of the parts named `name` that follow, however many."""
        while True:
            part = self.next()
            if part[0] != name:
                self._peeked = part
                return
            yield part[1]

    def expect(self, name: str) -> bytes:
        """Return the body of the next part, which must have this name."""
        found, body = self.next()
        if found != name:
            raise SnapshotDamaged(f"the snapshot has the part {found!r} where {name!r} is expected")
        return body

    def _read(self) -> Part:
        while LINE not in self._buffer:
            if len(self._buffer) > LONGEST_HEAD or not self._fill():
                raise SnapshotDamaged("the snapshot is truncated, or not a snapshot")
        line, _, rest = self._buffer.partition(LINE)
        try:
            head = msgspec.json.decode(line, type=_Head)
        except UNREADABLE as error:
            raise SnapshotDamaged(f"the snapshot's layout is damaged: {error}") from error
        self._left -= len(line) + head.length + 2
        if head.length < 0 or self._left < 0:
            raise SnapshotDamaged("the snapshot is larger than its manifest states")
        return head.part, self._body(rest, head.length)

    def _body(self, rest: bytes, length: int) -> bytes:
        pieces, have = [rest], len(rest)
        while have < length + 1:
            chunk = next(self._chunks, None)
            if chunk is None:
                raise SnapshotDamaged("the snapshot is truncated")
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
            raise SnapshotDamaged("the snapshot does not end where its manifest states")
