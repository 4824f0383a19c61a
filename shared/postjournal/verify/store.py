"""The snapshots as they lie in their store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

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
        sizes = {each.name: each.size for each in self.store.list(self.folder)}
        if f"{self.folder}/{self.manifest.name}" not in sizes:
            raise FileNotFoundError(self.manifest.name)
        if self.path not in sizes:
            raise SnapshotDamaged("the object is missing, though its manifest is there")
        yield from self.store.read(self.path, sizes[self.path])


def snapshots(
    store: ObjectStore, namespace: str, shard: int
) -> tuple[Sequence[StoredSnapshot], Mapping[str, str]]:
    """Those of a shard, and the files that should be manifests and are none: name → why."""
    folder = manifests.folder(namespace, shard)
    kept: list[StoredSnapshot] = []
    unreadable = {}
    for file in store.list(folder):
        if not file.name.endswith(manifests.SUFFIX):
            continue
        try:
            data = store.get(file.name)
            manifest = manifests.decode(file.name.rpartition("/")[2], data)
            kept.append(ObjectSnapshot(store, folder, manifest))
        except FileNotFoundError:  # deleted a moment ago
            continue
        except SnapshotUnusable as error:
            unreadable[file.name] = str(error)
    return kept, unreadable
