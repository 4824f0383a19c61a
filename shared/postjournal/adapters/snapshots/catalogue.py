"""The snapshots of one system in an object store: listing, writing, reading, cleaning.

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
"""Requests at once: manifests are small and many."""


@dataclass(frozen=True)
class Written:
    """SHA-256 and size in bytes of an object as it was sent."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Catalogue:
    """A shard's snapshots, newest first; `unusable`: path of a manifest → why it is ignored."""

    snapshots: list[Manifest]
    unusable: dict[str, str]


class SnapshotStore:
    """Safe to use from many threads. All methods raise what `ObjectStore` does."""

    def __init__(self, store: ObjectStore, namespace: str) -> None:
        """`namespace`: the prefix of the system's topics."""
        self._store, self._namespace = store, namespace
        self._known: dict[str, Manifest] = {}

    @property
    def url(self) -> str:
        return self._store.url

    def check(self) -> None:
        self._store.check()

    # --- the catalogue ----------------------------------------------------------------------

    def catalogue(self, shard: int) -> Catalogue:
        """The snapshots there are now. A manifest never changes, so each is read once."""
        files = [file for file in self._list(shard) if file.name.endswith(manifests.SUFFIX)]
        with ThreadPoolExecutor(READERS) as pool:
            found = list(pool.map(self._manifest, files))
        snapshots = [manifest for manifest in found if isinstance(manifest, Manifest)]
        snapshots.sort(key=lambda manifest: (manifest.offset, manifest.time), reverse=True)
        unusable = {
            file.name: reason
            for file, reason in zip(files, found, strict=True)
            if isinstance(reason, str) and reason
        }
        return Catalogue(snapshots, unusable)

    def _manifest(self, file: StoredObject) -> Manifest | str:
        """The manifest, or why it is unusable; "" when it has just been deleted."""
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
        """Stream an object into the store; it becomes a snapshot with its manifest."""
        meter = _Meter()
        self._store.put(self._path(shard, name), meter.through(chunks))
        return Written(meter.sha256, meter.size)

    def publish(self, manifest: Manifest) -> bool:
        """Write the manifest unless it exists; False: another replica has written it."""
        path = self._path(manifest.shard, manifest.name)
        return self._store.create(path, manifests.encode(manifest))

    def verify(self, manifest: Manifest, on_read: Callable[[int], None] | None = None) -> None:
        """Read the object back; `on_read` gets the bytes read so far. Raises `SnapshotDamaged`."""
        read = 0
        for chunk in self.read(manifest):
            read += len(chunk)
            if on_read is not None:
                on_read(read)

    # --- reading ----------------------------------------------------------------------------

    def read(self, manifest: Manifest) -> Iterator[bytes]:
        """The object's bytes, chunk by chunk.

        Raises `SnapshotDamaged` at the end when size or SHA-256 differ from the manifest's: the
        caller must then discard what it has made of the chunks.
        """
        meter = _Meter()
        path = self._path(manifest.shard, manifest.object)
        try:
            yield from meter.through(self._store.read(path, manifest.size))
        except FileNotFoundError as error:
            raise SnapshotDamaged(f"{path} is missing, though its manifest is there") from error
        except StoreUnavailable as error:
            if self._is_shorter(manifest):
                raise SnapshotDamaged(
                    f"{path} is shorter than the {manifest.size} bytes in its manifest"
                ) from error
            raise
        if (meter.size, meter.sha256) != (manifest.size, manifest.sha256):
            raise SnapshotDamaged(
                f"{path}: {meter.size} bytes with SHA-256 {meter.sha256}, but its manifest has "
                f"{manifest.size} bytes with {manifest.sha256}"
            )

    def _is_shorter(self, manifest: Manifest) -> bool:
        """A range beyond the end of an object raises an error without a class of its own."""
        path = self._path(manifest.shard, manifest.object)
        sizes = [file.size for file in self._list(manifest.shard) if file.name == path]
        return any(size < manifest.size for size in sizes)

    # --- cleaning ---------------------------------------------------------------------------

    def delete(self, manifest: Manifest) -> None:
        """Delete the manifest first, so that no reader finds a snapshot without its object."""
        self._store.delete(self._path(manifest.shard, manifest.name))
        self._store.delete(self._path(manifest.shard, manifest.object))

    def delete_object(self, shard: int, name: str) -> None:
        """Delete the object of a snapshot that was given up."""
        self._store.delete(self._path(shard, name))

    def clean(self, shard: int, before_ms: int) -> list[str]:
        """Delete objects without a manifest that were last modified before `before_ms`.

        A replica that dies while it takes a snapshot leaves them. `before_ms`: since the Unix
        epoch. Returns their names.
        """
        catalogue = self.catalogue(shard)
        wanted = {self._path(shard, manifest.object) for manifest in catalogue.snapshots}
        unread = [_stem(name) for name in catalogue.unusable]  # their objects are kept
        orphans = [
            file.name
            for file in self._list(shard)
            if file.name.endswith(manifests.OBJECT_SUFFIX)
            and file.name not in wanted
            and file.modified_ms < before_ms
            and not any(file.name.startswith(stem) for stem in unread)
        ]
        for name in orphans:
            self._store.delete(name)
        unfinished = self._store.clean_unfinished(self._folder(shard), before_ms)
        return orphans + ["an unfinished upload"] * unfinished

    # --- names ------------------------------------------------------------------------------

    def _list(self, shard: int) -> list[StoredObject]:
        return self._store.list(self._folder(shard))

    def _folder(self, shard: int) -> str:
        return manifests.folder(self._namespace, shard)

    def _path(self, shard: int, name: str) -> str:
        return f"{self._folder(shard)}/{name}"


class _Meter:
    """Counts and hashes the chunks of a stream."""

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
