"""Encodes and decodes stored snapshots: zstd-compressed content that is checked while read."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

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
MAX_WINDOW_LOG = 27
"""128 MiB are enough for every usual level; bounds the memory that a damaged header can request."""

_COMPRESSION: dict[int, int] = {
    zstd.CompressionParameter.compression_level: LEVEL,
    zstd.CompressionParameter.checksum_flag: 1,
}
_DECOMPRESSION: dict[int, int] = {zstd.DecompressionParameter.window_log_max: MAX_WINDOW_LOG}


def compress(content: Iterable[bytes]) -> Iterator[bytes]:
    """Compress into one zstd frame with a checksum."""
    compressor = zstd.ZstdCompressor(options=_COMPRESSION)
    for piece in content:
        if packed := compressor.compress(piece):
            yield packed
    yield compressor.flush()


def decompress(stored: Iterable[bytes]) -> Iterator[bytes]:
    """Decompress one frame into chunks of at most CHUNK_BYTES. Raises `SnapshotDamaged`."""
    decompressor = zstd.ZstdDecompressor(options=_DECOMPRESSION)
    try:
        for part in stored:
            data = part
            while not decompressor.eof:
                if chunk := decompressor.decompress(data, CHUNK_BYTES):
                    yield chunk
                if decompressor.needs_input:
                    break
                data = b""
    except zstd.ZstdError as error:
        raise SnapshotDamaged(f"the snapshot cannot be decompressed: {error}") from error


def restore(
    stored: Iterator[bytes],
    manifest: Manifest,
    application: Application[S, C, E],
    place: ShardPlace,
    dedupe_window: int,
) -> Image[S, C, E]:
    """Decode the image in a stored object.

    `stored` must raise `SnapshotDamaged` at its end unless the object matches the manifest, as
    `SnapshotStore.read` does; that error has precedence, because other errors of a damaged object
    mean nothing. `dedupe_window`: the replica's, in commands. Raises `SnapshotDamaged` for any
    exception of the application's `load`, and what `image.load` raises.
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
