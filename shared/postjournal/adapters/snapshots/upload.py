"""Uploading a snapshot that a forked child writes."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from postjournal.adapters.snapshots.catalogue import SnapshotStore, Written
from postjournal.adapters.snapshots.forked_writer import ChildFailed, ForkedWriter
from postjournal.core import messages as m
from postjournal.core.errors import SnapshotUnusable, StoreUnavailable, StoreUnusable
from postjournal.core.roles import SnapshotState
from postjournal.core.snapshot import manifest as manifests
from postjournal.core.snapshot.image import Header
from postjournal.core.snapshot.manifest import Manifest

log = logging.getLogger(__name__)

REPORT_EVERY_S = 1.0
"""How often progress is reported."""


class Emit(Protocol):
    """Passes messages to the engine."""

    @property
    def is_cancelled(self) -> bool:
        """The engine has given the snapshot up, and drops further messages."""

    def __call__(self, message: m.Message) -> None:
        """Pass one message to the engine."""


class SnapshotJob:
    """A snapshot whose state a child process holds."""

    def __init__(self, request: m.SnapshotRequested, header: Header, replica: str) -> None:
        """Make it just before the fork. `replica`: the name of the one that takes it."""
        self.request, self.header, self._replica = request, header, replica
        self._started, self._time_ms = time.monotonic(), time.time_ns() // 1_000_000
        self.fork_ms = 0.0

    def progress(self, state: SnapshotState, **changes: Any) -> m.SnapshotProgressed:
        header = self.header
        return m.SnapshotProgressed(
            self.request.snapshot_id,
            self.request.attempt,
            state,
            offset=header.offset,
            seq=header.next_seq,
            epoch=header.epoch,
            duration_ms=int(self.elapsed_ms()),
            fork_ms=self.fork_ms,
            **changes,
        )

    def failed(self, error: str) -> m.SnapshotProgressed:
        return self.progress(SnapshotState.FAILED, error=error)

    def done(self, manifest: Manifest) -> m.SnapshotProgressed:
        return self.progress(SnapshotState.DONE, size=manifest.size, sha256=manifest.sha256)

    def elapsed_ms(self) -> float:
        """Milliseconds since just before the fork."""
        return round((time.monotonic() - self._started) * 1000, 3)

    def manifest(self, name: str, written: Written, content_size: int) -> Manifest:
        """The manifest of the object `name`. `content_size`: uncompressed, bytes."""
        return self.header.manifest(
            self.request.snapshot_id,
            name,
            sha256=written.sha256,
            size=written.size,
            content_size=content_size,
            replica=self._replica,
            time=self._time_ms,
            duration_ms=int(self.elapsed_ms()),
        )


class SnapshotUpload:
    """Streams what a child writes into the store, reads it back, and writes the manifest."""

    def __init__(
        self, store: SnapshotStore, shard: int, job: SnapshotJob, writer: ForkedWriter, emit: Emit
    ) -> None:
        """`run` closes `writer` in any case."""
        self._store, self._shard = store, shard
        self._job, self._writer, self._emit = job, writer, emit
        self._reported_s = time.monotonic()
        self._may_be_published = False

    def run(self) -> None:
        """Upload, and emit progress and the outcome: SnapshotProgressed with `done` or `failed`."""
        request, header = self._job.request, self._job.header
        name = manifests.object_name(header.offset, request.snapshot_id, uuid.uuid4().hex)
        try:
            self._emit(self._job.done(self._find_or_store(name)))
        except (ChildFailed, SnapshotUnusable, StoreUnavailable, StoreUnusable) as error:
            if not self._may_be_published:  # else the coordinator cleans up when it is not
                self._clean(name)
            self._emit(self._job.failed(str(error)))
        except Exception as error:  # a bug in a snapshot must not halt the shard
            log.exception("shard %d: bug; snapshot %s failed", self._shard, request.snapshot_id)
            self._emit(self._job.failed(f"bug: {type(error).__name__}: {error}"))
        finally:
            self._writer.close()

    def _find_or_store(self, name: str) -> Manifest:
        existing = self._find()
        if existing is not None:
            return existing
        written = self._store.write_object(self._shard, name, self._sent())
        manifest = self._job.manifest(name, written, self._writer.content_size)
        self._store.verify(manifest, self._on_read_back(manifest))
        self._may_be_published = True
        if self._store.publish(manifest):
            return manifest
        log.info("snapshot %s: another replica has published it already", manifest.id)
        self._clean(name)
        existing = self._find()
        if existing is None:
            raise SnapshotUnusable(f"{manifest.name} is another replica's, and cannot be read")
        return existing

    def _find(self) -> Manifest | None:
        """The requested snapshot, if a replica has published it. Raises `SnapshotDamaged`."""
        for manifest in self._store.catalogue(self._shard).snapshots:
            if manifest.id == self._job.request.snapshot_id:
                self._store.verify(manifest, self._on_read_back(manifest))
                return manifest
        return None

    def _sent(self) -> Iterator[bytes]:
        sent = 0
        for chunk in self._writer.chunks():
            if self._emit.is_cancelled:
                raise ChildFailed("the snapshot was given up")
            sent += len(chunk)
            self._report_progress(SnapshotState.WRITING, written=sent)
            yield chunk

    def _on_read_back(self, manifest: Manifest) -> Callable[[int], None]:
        self._emit(self._job.progress(SnapshotState.VERIFYING, size=manifest.size))

        def on_read(read: int) -> None:
            self._report_progress(SnapshotState.VERIFYING, read_back=read, size=manifest.size)

        return on_read

    def _report_progress(self, state: SnapshotState, **changes: int) -> None:
        if time.monotonic() - self._reported_s >= REPORT_EVERY_S:
            self._reported_s = time.monotonic()
            self._emit(self._job.progress(state, **changes))

    def _clean(self, name: str) -> None:
        try:
            self._store.delete_object(self._shard, name)
        except (StoreUnavailable, StoreUnusable) as error:
            log.warning("%s not deleted: %s; the coordinator deletes it later", name, error)
