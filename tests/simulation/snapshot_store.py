"""A snapshot store in memory.

What is stored is what production stores: the engine's own content, compressed, with a manifest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from postjournal.core.errors import SnapshotDamaged
from postjournal.core.snapshot.image import Header
from postjournal.core.snapshot.manifest import FORMAT_VERSION, Manifest
from postjournal.recovery import codec as snapshot_codec

if TYPE_CHECKING:
    from tests.simulation.broker import ShardTopics

KEPT = 3


@dataclass
class StoredSnapshot:
    """One snapshot; `data` is what the store gives back, None: the object is gone."""

    manifest: Manifest
    data: bytes | None

    @property
    def is_sound(self) -> bool:
        """Whether it is still what was written."""
        data = self.data
        return data is not None and hashlib.sha256(data).hexdigest() == self.manifest.sha256

    def reaches(self, begin: int) -> bool:
        """Whether a journal that begins there goes on from it."""
        return self.manifest.offset + 1 >= begin


@dataclass
class SnapshotStore:
    """One shard's snapshots, newest first."""

    snapshots: list[StoredSnapshot] = field(default_factory=list)

    def put(self, stored: StoredSnapshot, begin: int) -> None:
        """Keep it, and not more than `KEPT`, but always one for a journal that begins there."""
        self.snapshots.append(stored)
        self.snapshots.sort(key=lambda each: each.manifest.offset, reverse=True)
        while len(self.snapshots) > KEPT and not self.needs(self.snapshots[-1], begin):
            self.snapshots.pop()

    def holds(self, name: str) -> bool:
        """Whether another, of the same name, has stored it: a manifest is written once."""
        return any(each.manifest.id == name for each in self.snapshots)

    def needs(self, stored: StoredSnapshot, begin: int) -> bool:
        """Whether a journal that was trimmed can be restored only from this one."""
        useful = [each for each in self.snapshots if each.is_sound and each.reaches(begin)]
        return begin > 0 and useful == [stored]


class StoreView:
    """See `SnapshotSource`: what one replica sees of the store."""

    def __init__(self, seen: list[StoredSnapshot]) -> None:
        """`seen`: newest first."""
        self._seen = {each.manifest.id: each for each in seen}

    @property
    def newest_first(self) -> Sequence[Manifest]:
        """Their manifests."""
        return [each.manifest for each in self._seen.values()]

    @property
    def unusable(self) -> Mapping[str, str]:
        """None."""
        return {}

    def read(self, manifest: Manifest) -> Iterator[bytes]:
        """As `SnapshotStore.read`."""
        data = self._seen[manifest.id].data
        if data is None:
            raise SnapshotDamaged("its object is missing")
        yield data
        if hashlib.sha256(data).hexdigest() != manifest.sha256:
            raise SnapshotDamaged("it is not what its manifest says")


class SimRecoveryJournal:
    """See `RecoveryJournal`."""

    def __init__(self, topics: ShardTopics) -> None:
        """The journal of one shard."""
        self._journal = topics.journal

    def bounds(self) -> tuple[int, int]:
        """First offset and end."""
        return self._journal.begin, len(self._journal.records)

    def value(self, offset: int) -> bytes | None:
        """The record at `offset`."""
        return self._journal.records[offset] if offset >= self._journal.begin else None


def make_stored_snapshot(
    snapshot_id: str, replica: str, header: Header, content: bytes
) -> StoredSnapshot:
    """As a replica stores it."""
    data = b"".join(snapshot_codec.compress([content]))
    manifest = Manifest(
        format=FORMAT_VERSION,
        id=snapshot_id,
        object=snapshot_id,
        application=header.application,
        schema_version=header.schema_version,
        shard=header.shard,
        shards=header.shards,
        epoch=header.epoch,
        offset=header.offset,
        record_digest=header.record_digest,
        seq=header.next_seq,
        digest=header.digest,
        sources=header.sources,
        sinks=header.sinks,
        published=header.published,
        journal_time=header.time,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        content_size=len(content),
        replica=replica,
        time=0,
        duration_ms=0,
    )
    return StoredSnapshot(manifest, data)


def damaged(random: Random, data: bytes) -> bytes | None:
    """Gone, cut off, empty, or with a flipped bit."""
    at = random.randrange(len(data))
    flipped = bytes([data[at] ^ (1 << random.randrange(8))])
    return random.choice((None, data[:at], b"", data[:at] + flipped + data[at + 1 :]))
