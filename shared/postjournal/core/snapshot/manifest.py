"""The manifest of a snapshot: what it contains, where its object is, how to verify it.

It is written after its object and never changed, so a snapshot exists exactly when its manifest
does. Names begin with the offset, 20 digits wide: their order is the order of the journal.
"""

from __future__ import annotations

import msgspec

from postjournal.core.errors import SnapshotDamaged, SnapshotTooNew
from postjournal.core.records import UNREADABLE

FORMAT_VERSION = 1
"""Of manifest and object; increased when an older reader could not, or must not, read them."""

SUFFIX = ".json"
OBJECT_SUFFIX = ".snapshot.zst"

MAX_ID_LENGTH = 64

_ID_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One snapshot of one shard.

    `offset`: of the last journal record that it includes, whose value has the BLAKE2b-128
    `record_digest`; `seq`: the number of commands included, which is the next one's sequence;
    `sources`, `sinks`, `published`: as in journal entries; `journal_time`: the latest time of the
    entries included; `time`: when it was taken, by the replica's clock; both ms since the Unix
    epoch. `object`: the object's name beside the manifest; `sha256` and `size` (bytes) are the
    object's, as stored; `content_size` is its size uncompressed.
    """

    format: int
    id: str
    object: str
    application: str
    schema_version: int
    shard: int
    shards: int
    epoch: int
    offset: int
    record_digest: str
    seq: int
    digest: str
    sources: dict[str, int]
    sinks: dict[str, int]
    published: dict[str, int]
    journal_time: int
    sha256: str
    size: int
    content_size: int
    replica: str
    time: int
    duration_ms: int

    @property
    def name(self) -> str:
        """The manifest's own file name, beside its object."""
        return f"{stem(self.offset, self.id)}{SUFFIX}"


class _Version(msgspec.Struct):
    format: int


def is_snapshot_id(text: str) -> bool:
    """Return whether `text` is a valid snapshot id: 1-64 of A-Z a-z 0-9 _ -."""
    return 1 <= len(text) <= MAX_ID_LENGTH and _ID_CHARACTERS.issuperset(text)


def folder(namespace: str, shard: int) -> str:
    """Return the folder of a shard's snapshots, below the store's URL."""
    return f"{namespace}/shard-{shard}"


def stem(offset: int, snapshot_id: str) -> str:
    """Return the common beginning of the names of manifest and object."""
    return f"{offset:020d}-{snapshot_id}"


def object_name(offset: int, snapshot_id: str, taker: str) -> str:
    """Return the object's name. `taker`: the incarnation; no two write to one object."""
    return f"{stem(offset, snapshot_id)}-{taker[:12]}{OBJECT_SUFFIX}"


def encode(manifest: Manifest) -> bytes:
    """Return the manifest as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(manifest))


def decode(name: str, data: bytes) -> Manifest:
    """Return the manifest in `data`, the content of the file `name`.

    Raises `SnapshotTooNew`, or `SnapshotDamaged` for an invalid manifest or another file's.
    """
    try:
        version = msgspec.json.decode(data, type=_Version).format
        if version > FORMAT_VERSION:
            raise SnapshotTooNew(
                f"{name} has format {version}, but this version of Postjournal reads formats up "
                f"to {FORMAT_VERSION}: upgrade this replica"
            )
        manifest = msgspec.json.decode(data, type=Manifest)
    except UNREADABLE as error:
        raise SnapshotDamaged(f"{name} is not a valid manifest: {error}") from error
    if manifest.name != name:
        raise SnapshotDamaged(f"{name} is the manifest of another snapshot, {manifest.name}")
    return manifest
