"""SnapshotUpload a snapshot that a forked child writes down."""

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
from postjournal.core.snapshot.manifest import FORMAT_VERSION, Manifest

log = logging.getLogger(__name__)

TELL_S = 1.0
"""Progress is told this often."""


class Report(Protocol):
    """Hands messages to the engine."""

    @property
    def is_cancelled(self) -> bool:
        """Nobody wants to hear of it any more."""

    def __call__(self, message: m.Message) -> None:
        """One message."""


class SnapshotJob:
    """A snapshot whose state is held by a child."""

    def __init__(self, asked: m.SnapshotRequested, header: Header, replica: str) -> None:
        """Make it just before the fork. `replica`: the name of the one that takes it."""
        self.asked, self.header, self._replica = asked, header, replica
        self._started, self._time_ms = time.monotonic(), time.time_ns() // 1_000_000
        self.fork_ms = 0.0

    def progress(self, state: SnapshotState, **changes: Any) -> m.SnapshotProgressed:
        """What to tell now."""
        header = self.header
        return m.SnapshotProgressed(
            self.asked.snapshot_id,
            self.asked.attempt,
            state,
            offset=header.offset,
            seq=header.next_seq,
            epoch=header.epoch,
            duration_ms=int(self.elapsed_ms()),
            fork_ms=self.fork_ms,
            **changes,
        )

    def failed(self, error: str) -> m.SnapshotProgressed:
        """It came to nothing."""
        return self.progress(SnapshotState.FAILED, error=error)

    def done(self, manifest: Manifest) -> m.SnapshotProgressed:
        """It is in the store."""
        return self.progress(SnapshotState.DONE, size=manifest.size, sha256=manifest.sha256)

    def elapsed_ms(self) -> float:
        """Since just before the fork."""
        return round((time.monotonic() - self._started) * 1000, 3)

    def manifest(self, name: str, written: Written, content_size: int) -> Manifest:
        """What is published last."""
        header = self.header
        return Manifest(
            format=FORMAT_VERSION,
            id=self.asked.snapshot_id,
            object=name,
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
        self, store: SnapshotStore, shard: int, job: SnapshotJob, writer: ForkedWriter, tell: Report
    ) -> None:
        """`writer` is closed at the end, whatever comes."""
        self._store, self._shard = store, shard
        self._begun, self._writer, self._tell = job, writer, tell
        self._told = time.monotonic()
        self._may_be_published = False

    def run(self) -> None:
        """Tells what comes of it."""
        asked, header = self._begun.asked, self._begun.header
        name = manifests.object_name(header.offset, asked.snapshot_id, uuid.uuid4().hex)
        try:
            self._tell(self._begun.done(self._find_or_store(name)))
        except (ChildFailed, SnapshotUnusable, StoreUnavailable, StoreUnusable) as error:
            if not self._may_be_published:  # else the coordinator cleans when it is not
                self._clean(name)
            self._tell(self._begun.failed(str(error)))
        except Exception as error:  # a snapshot is worth no shard
            log.exception("a bug; the snapshot is given up")
            self._tell(self._begun.failed(f"bug: {type(error).__name__}: {error}"))
        finally:
            self._writer.close()

    def _find_or_store(self, name: str) -> Manifest:
        there = self._find()
        if there is not None:
            return there
        written = self._store.write_object(self._shard, name, self._sent())
        manifest = self._begun.manifest(name, written, self._writer.content_size)
        self._store.verify(manifest, self._on_read_back(manifest))
        self._may_be_published = True
        if self._store.publish(manifest):
            return manifest
        log.info("snapshot %s: another replica was first", manifest.id)
        self._clean(name)
        there = self._find()
        if there is None:
            raise SnapshotUnusable(f"{manifest.name} is another replica's, and cannot be read")
        return there

    def _find(self) -> Manifest | None:
        """The snapshot that was asked for, of whichever replica; raises `SnapshotDamaged`."""
        for each in self._store.catalogue(self._shard).snapshots:
            if each.id == self._begun.asked.snapshot_id:
                self._store.verify(each, self._on_read_back(each))
                return each
        return None

    def _sent(self) -> Iterator[bytes]:
        sent = 0
        for chunk in self._writer.chunks():
            if self._tell.is_cancelled:
                raise ChildFailed("it was given up")
            sent += len(chunk)
            self._tell_sometimes(SnapshotState.WRITING, written=sent)
            yield chunk

    def _on_read_back(self, manifest: Manifest) -> Callable[[int], None]:
        self._tell(self._begun.progress(SnapshotState.VERIFYING, size=manifest.size))

        def on_read(read: int) -> None:
            self._tell_sometimes(SnapshotState.VERIFYING, read_back=read, size=manifest.size)

        return on_read

    def _tell_sometimes(self, state: SnapshotState, **changes: int) -> None:
        if time.monotonic() - self._told >= TELL_S:
            self._told = time.monotonic()
            self._tell(self._begun.progress(state, **changes))

    def _clean(self, name: str) -> None:
        try:
            self._store.delete_object(self._shard, name)
        except (StoreUnavailable, StoreUnusable) as error:
            log.warning("%s is left behind: %s; the coordinator cleans it later", name, error)
