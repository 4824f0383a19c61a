"""A snapshot store in memory.

It stores what production stores: the engine's own content, compressed, with a manifest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from postjournal.core.errors import SnapshotDamaged
from postjournal.core.snapshot.image import Header
from postjournal.core.snapshot.manifest import Manifest
from postjournal.recovery import codec as snapshot_codec

if TYPE_CHECKING:
    from tests.simulation.broker import ShardTopics

KEPT = 3


@dataclass
class StoredSnapshot:
    """One snapshot; `data` is what the store returns, None if the object is missing."""

    manifest: Manifest
    data: bytes | None

    @property
    def is_sound(self) -> bool:
        """Whether the data is still what was written."""
        data = self.data
        return data is not None and hashlib.sha256(data).hexdigest() == self.manifest.sha256

    def reaches(self, begin: int) -> bool:
        """Whether a journal that begins at `begin` continues it."""
        return self.manifest.offset + 1 >= begin


@dataclass
class SnapshotStore:
    """One shard's snapshots, newest first."""

    snapshots: list[StoredSnapshot] = field(default_factory=list)

    def put(self, stored: StoredSnapshot, begin: int) -> None:
        """Keep at most `KEPT`, but never delete the only one that a trimmed journal can use."""
        self.snapshots.append(stored)
        self.snapshots.sort(key=lambda snapshot: snapshot.manifest.offset, reverse=True)
        while len(self.snapshots) > KEPT and not self.needs(self.snapshots[-1], begin):
            self.snapshots.pop()

    def holds(self, name: str) -> bool:
        """Whether the name is taken: a manifest is written once."""
        return any(stored.manifest.id == name for stored in self.snapshots)

    def needs(self, stored: StoredSnapshot, begin: int) -> bool:
        """Whether `stored` is the only one from which a trimmed journal can be restored."""
        useful = [other for other in self.snapshots if other.is_sound and other.reaches(begin)]
        return begin > 0 and useful == [stored]


class StoreView:
    """A `SnapshotSource`: what one replica sees of the store."""

    def __init__(self, seen: list[StoredSnapshot]) -> None:
        """`seen`: the snapshots that the replica sees, newest first."""
        self._seen = {stored.manifest.id: stored for stored in seen}

    @property
    def newest_first(self) -> Sequence[Manifest]:
        return [stored.manifest for stored in self._seen.values()]

    @property
    def unusable(self) -> Mapping[str, str]:
        return {}

    def read(self, manifest: Manifest) -> Iterator[bytes]:
        """Yield the content; raise `SnapshotDamaged` if it is missing or does not match."""
        data = self._seen[manifest.id].data
        if data is None:
            raise SnapshotDamaged("its object is missing")
        yield data
        if hashlib.sha256(data).hexdigest() != manifest.sha256:
            raise SnapshotDamaged("its object does not match its manifest")


class SimRecoveryJournal:
    """The `RecoveryJournal` of one shard."""

    def __init__(self, topics: ShardTopics) -> None:
        self._journal = topics.journal

    def bounds(self) -> tuple[int, int]:
        return self._journal.begin, len(self._journal.records)

    def value(self, offset: int) -> bytes | None:
        return self._journal.records[offset] if offset >= self._journal.begin else None


def make_stored_snapshot(
    snapshot_id: str, replica: str, header: Header, content: bytes
) -> StoredSnapshot:
    """Compress the content and describe it in a manifest, as a replica does."""
    data = b"".join(snapshot_codec.compress([content]))
    manifest = header.manifest(
        snapshot_id,
        snapshot_id,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        content_size=len(content),
        replica=replica,
        time=0,
        duration_ms=0,
    )
    return StoredSnapshot(manifest, data)


def damaged(random: Random, data: bytes) -> bytes | None:
    """The data deleted, truncated, emptied, or with one bit flipped."""
    at = random.randrange(len(data))
    flipped = bytes([data[at] ^ (1 << random.randrange(8))])
    return random.choice((None, data[:at], b"", data[:at] + flipped + data[at + 1 :]))
