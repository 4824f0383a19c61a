"""Snapshots as they are stored: content compressed with zstd, checked while it is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import zstandard

from postjournal.core.application import Application, Command
from postjournal.core.errors import SnapshotDamaged, SnapshotMismatch, SnapshotUnusable
from postjournal.core.sharding import ShardPlace
from postjournal.core.snapshot.image import Image, load
from postjournal.core.snapshot.manifest import Manifest

S = TypeVar("S")
C = TypeVar("C", bound=Command)
E = TypeVar("E")

LEVEL = 3
"""zstd's default: some 300 MB/s a core; higher levels save little on JSON and take far longer."""

CHUNK_BYTES = 1 << 20
MAX_WINDOW_BYTES = 1 << 27
"""What a compressor of this level or any usual one asks for; a damaged head may ask for more."""


def compress(content: Iterable[bytes]) -> Iterator[bytes]:
    """As one zstd frame with a checksum."""
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj()
    for piece in content:
        packed = compressor.compress(piece)
        if packed:
            yield packed
    yield compressor.flush()


def decompress(stored: Iterable[bytes]) -> Iterator[bytes]:
    """Back again, in chunks of bounded size whatever is stored. Raises `SnapshotDamaged`."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    try:
        source: Any = _Source(stored)  # as much of a file as is needed
        with decompressor.stream_reader(source) as reader:
            while chunk := reader.read(CHUNK_BYTES):
                yield chunk
    except zstandard.ZstdError as error:
        raise SnapshotDamaged(f"the snapshot cannot be decompressed: {error}") from error


def restore(
    stored: Iterator[bytes],
    manifest: Manifest,
    application: Application[S, C, E],
    place: ShardPlace,
    dedupe_window: int,
) -> Image[S, C, E]:
    """The image in a stored object; `stored` must raise `SnapshotDamaged` at its end if the
    object is not the manifest's, as `SnapshotStore.read` does. Raises what `load` raises.

    The object's hash has the first word: what a damaged object seems to say counts for nothing.
    """
    try:
        image = load(decompress(stored), manifest, application, place, dedupe_window)
    except SnapshotDamaged:
        raise
    except (SnapshotUnusable, SnapshotMismatch):
        _exhaust(stored)
        raise
    except Exception as error:
        _exhaust(stored)
        raise SnapshotDamaged(f"{type(error).__name__}: {error}") from error
    _exhaust(stored)
    return image


def _exhaust(stored: Iterator[Any]) -> None:
    for _ in stored:
        pass


class _Source:
    """As much of a file as the decompressor wants."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._left = memoryview(b"")

    def read(self, size: int) -> memoryview:
        """At most `size` bytes; none at the end."""
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._left = memoryview(chunk)
        taken, self._left = self._left[:size], self._left[size:]
        return taken
