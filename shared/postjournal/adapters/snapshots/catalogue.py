"""The snapshots of one system in an object store: the catalogue, writing, reading, cleaning.

<namespace>/shard-<n>/<offset>-<id>.json                     the manifest, written last
<namespace>/shard-<n>/<offset>-<id>-<taker>.snapshot.zst     the object
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from postjournal.adapters.snapshots.object_store import ObjectStore, StoredObject
from postjournal.core.errors import SnapshotDamaged, SnapshotUnusable, StoreUnavailable
from postjournal.core.snapshot import manifest as manifests
from postjournal.core.snapshot.manifest import Manifest

log = logging.getLogger(__name__)

READERS = 8
"""Manifests are small and many: so many requests at once."""


@dataclass(frozen=True)
class Written:
    """An object as it was sent."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Catalogue:
    """A shard's snapshots, newest first; `unusable`: manifest name → why it counts for nothing."""

    snapshots: list[Manifest]
    unusable: dict[str, str]


class SnapshotStore:
    """Safe to use from many threads. Raises what `ObjectStore` does."""

    def __init__(self, store: ObjectStore, namespace: str) -> None:
        """`namespace` as in the names of the topics."""
        self._store, self._namespace = store, namespace
        self._known: dict[str, Manifest] = {}

    @property
    def url(self) -> str:
        """For messages."""
        return self._store.url

    def check(self) -> None:
        """Try all that is needed."""
        self._store.check()

    # --- the catalogue ----------------------------------------------------------------------

    def catalogue(self, shard: int) -> Catalogue:
        """What there is now. A manifest never changes, so each is read once."""
        files = [each for each in self._list(shard) if each.name.endswith(manifests.SUFFIX)]
        with ThreadPoolExecutor(READERS) as pool:
            found = list(pool.map(self._manifest, files))
        snapshots = [each for each in found if isinstance(each, Manifest)]
        snapshots.sort(key=lambda each: (each.offset, each.time), reverse=True)
        unusable = {
            file.name: each
            for file, each in zip(files, found, strict=True)
            if isinstance(each, str) and each
        }
        return Catalogue(snapshots, unusable)

    def _manifest(self, file: StoredObject) -> Manifest | str:
        """Or why it is none; "" when it has just been deleted."""
        known = self._known.get(file.name)
        if known is not None:
            return known
        try:
            manifest = manifests.decode(_base(file.name), self._store.get(file.name))
        except FileNotFoundError:
            return ""
        except SnapshotUnusable as error:
            return str(error)
        self._known[file.name] = manifest
        return manifest

    # --- writing ----------------------------------------------------------------------------

    def write_object(self, shard: int, name: str, chunks: Iterable[bytes]) -> Written:
        """Stream an object into the store; it is no snapshot before its manifest is there."""
        meter = _Meter()
        self._store.put(self._path(shard, name), meter.through(chunks))
        return Written(meter.sha256, meter.size)

    def publish(self, manifest: Manifest) -> bool:
        """Write the manifest, if there is none of its name; False: another replica's is there."""
        path = self._path(manifest.shard, manifest.name)
        return self._store.create(path, manifests.encode(manifest))

    def verify(self, manifest: Manifest, on_read: Callable[[int], None] | None = None) -> None:
        """Read the object back; raises `SnapshotDamaged`. `on_read`: is told bytes read so far."""
        read = 0
        for chunk in self.read(manifest):
            read += len(chunk)
            if on_read is not None:
                on_read(read)

    # --- reading ----------------------------------------------------------------------------

    def read(self, manifest: Manifest) -> Iterator[bytes]:
        """The object's bytes; raises `SnapshotDamaged` at the end when they are not the manifest's.

        Whoever uses them before must throw away what he made of them then.
        """
        meter = _Meter()
        path = self._path(manifest.shard, manifest.object)
        try:
            yield from meter.through(self._store.read(path, manifest.size))
        except FileNotFoundError as error:
            raise SnapshotDamaged(f"{path} is missing, though its manifest is there") from error
        except StoreUnavailable as error:
            if self._is_shorter(manifest):
                raise SnapshotDamaged(f"{path} is shorter than its manifest says") from error
            raise
        if (meter.size, meter.sha256) != (manifest.size, manifest.sha256):
            raise SnapshotDamaged(
                f"{path}: {meter.size} bytes with SHA-256 {meter.sha256}, but its manifest says "
                f"{manifest.size} bytes with {manifest.sha256}"
            )

    def _is_shorter(self, manifest: Manifest) -> bool:
        """A range beyond the end is an error that has no name of its own."""
        path = self._path(manifest.shard, manifest.object)
        sizes = [each.size for each in self._list(manifest.shard) if each.name == path]
        return any(size < manifest.size for size in sizes)

    # --- cleaning ---------------------------------------------------------------------------

    def delete(self, manifest: Manifest) -> None:
        """The manifest first: nobody shall find a snapshot without its object."""
        self._store.delete(self._path(manifest.shard, manifest.name))
        self._store.delete(self._path(manifest.shard, manifest.object))

    def delete_object(self, shard: int, name: str) -> None:
        """An object that was given up."""
        self._store.delete(self._path(shard, name))

    def clean(self, shard: int, before_ms: int) -> list[str]:
        """Delete objects without a manifest that nobody has touched since `before_ms`.

        They are what a replica leaves that dies while it takes a snapshot. Returns their names.
        """
        catalogue = self.catalogue(shard)
        wanted = {self._path(shard, each.object) for each in catalogue.snapshots}
        told = [_stem(name) for name in catalogue.unusable]  # unread manifests keep theirs
        left = [
            each.name
            for each in self._list(shard)
            if each.name.endswith(manifests.OBJECT_SUFFIX)
            and each.name not in wanted
            and each.modified_ms < before_ms
            and not any(each.name.startswith(stem) for stem in told)
        ]
        for name in left:
            self._store.delete(name)
        unfinished = self._store.clean_unfinished(self._folder(shard), before_ms)
        return left + ["an unfinished upload"] * unfinished

    # --- names ------------------------------------------------------------------------------

    def _list(self, shard: int) -> list[StoredObject]:
        return self._store.list(self._folder(shard))

    def _folder(self, shard: int) -> str:
        return manifests.folder(self._namespace, shard)

    def _path(self, shard: int, name: str) -> str:
        return f"{self._folder(shard)}/{name}"


class _Meter:
    """Counts and hashes what passes."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def through(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._hash.update(chunk)
            self.size += len(chunk)
            yield chunk


def _base(path: str) -> str:
    return path.rpartition("/")[2]


def _stem(manifest_path: str) -> str:
    return manifest_path.removesuffix(manifests.SUFFIX)
