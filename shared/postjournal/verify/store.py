"""Finds a shard's snapshots in an object store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from postjournal.adapters.snapshots.object_store import ObjectStore
from postjournal.core.errors import SnapshotDamaged, SnapshotUnusable
from postjournal.core.snapshot import manifest as manifests
from postjournal.core.snapshot.manifest import Manifest
from postjournal.verify.snapshots import StoredSnapshot


@dataclass(frozen=True)
class ObjectSnapshot:
    """A `StoredSnapshot` in an object store."""

    store: ObjectStore
    folder: str
    manifest: Manifest

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.manifest.object}"

    def read(self) -> Iterator[bytes]:
        sizes = {file.name: file.size for file in self.store.list(self.folder)}
        if f"{self.folder}/{self.manifest.name}" not in sizes:
            raise FileNotFoundError(self.manifest.name)
        if self.path not in sizes:
            raise SnapshotDamaged("the object is missing, but its manifest exists")
        yield from self.store.read(self.path, sizes[self.path])


@dataclass(frozen=True)
class StoredSnapshots:
    """The snapshots of one shard; `unreadable`: name of an invalid manifest → reason."""

    readable: Sequence[StoredSnapshot] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)


def list_snapshots(store: ObjectStore, namespace: str, shard: int) -> StoredSnapshots:
    """List a shard's snapshots. Raises `StoreUnavailable` and `StoreUnusable`."""
    folder = manifests.folder(namespace, shard)
    readable: list[StoredSnapshot] = []
    unreadable = {}
    for file in store.list(folder):
        if not file.name.endswith(manifests.SUFFIX):
            continue
        try:
            data = store.get(file.name)
            manifest = manifests.decode(file.name.rpartition("/")[2], data)
            readable.append(ObjectSnapshot(store, folder, manifest))
        except FileNotFoundError:  # retention deleted it after the listing
            continue
        except SnapshotUnusable as error:
            unreadable[file.name] = str(error)
    return StoredSnapshots(readable, unreadable)
