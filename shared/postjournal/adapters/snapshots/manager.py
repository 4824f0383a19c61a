"""Snapshots taken and restored by threads, over an object store: the `Snapshots` port."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, Protocol

from postjournal.adapters.process.wakeup import Wakeup
from postjournal.adapters.snapshots.catalogue import Catalogue, SnapshotStore
from postjournal.adapters.snapshots.forked_writer import ForkedWriter
from postjournal.adapters.snapshots.upload import SnapshotJob, SnapshotUpload
from postjournal.core import messages as m
from postjournal.core.errors import JournalUnavailable, ShardHalted, StoreUnavailable, StoreUnusable
from postjournal.core.roles import SnapshotState
from postjournal.core.snapshot.image import Image
from postjournal.core.snapshot.manifest import Manifest
from postjournal.recovery.choice import Loader, RecoveryJournal, every, recover

log = logging.getLogger(__name__)

RETRY_S = 0.5
STORE_TIMEOUT_S = 10.0
"""When the store is unavailable for longer and the journal is complete, read the whole journal."""

AnyImage = Image[Any, Any, Any]


class Probe(RecoveryJournal, Protocol):
    """What is needed of a `JournalProbe`."""

    def close(self) -> None:
        """Close the connection to Kafka."""


@dataclass(frozen=True)
class Stores:
    """The store with two timeouts: `object_store.BACKGROUND_TIMEOUT_S`, `INTERACTIVE_TIMEOUT_S`."""

    background: SnapshotStore
    interactive: SnapshotStore


@dataclass(frozen=True)
class Restorer:
    """`open_probe` opens a probe of the journal; `load`, `fits`: see `recover`."""

    open_probe: Callable[[], Probe]
    load: Loader
    fits: Callable[[Manifest], bool] = every


@dataclass
class RestoreProgress:
    """How much of a snapshot's object a restore has read. `size`, `read`: bytes."""

    snapshot_id: str
    size: int
    read: int = 0


class SnapshotManager:
    """The `Snapshots` port. The engine's thread calls it; other threads do the work.

    `restoring`: the progress of the restore under way, for any thread to read.
    """

    def __init__(
        self, shard: int, replica: str, stores: Stores | None, restorer: Restorer, wakeup: Wakeup
    ) -> None:
        """`replica`: its name; `stores` None: there are no snapshots.

        `wakeup` is set when `poll` has something.
        """
        self._wakeup = wakeup
        self._shard, self._replica, self._stores = shard, replica, stores
        self._restorer = restorer
        self._ready: SimpleQueue[tuple[Event, m.Message | Exception]] = SimpleQueue()
        self._given_up = Event()  # of the work under way now
        self._writer: ForkedWriter | None = None
        self.restoring: RestoreProgress | None = None

    def restore(self) -> None:
        self._start(self._restore, "restore")

    def take(self, request: m.SnapshotRequested, image: AnyImage) -> None:
        """Forks in the calling thread, which is the engine's; another one does the rest."""
        job = SnapshotJob(request, image.header(), self._replica)
        stores = self._stores
        if stores is None:
            self._put(job.failed("POSTJOURNAL_SNAPSHOT_URL is not set"))
            return
        try:
            self._writer = writer = ForkedWriter(image.content)
        except OSError as error:
            self._put(job.failed(f"cannot fork: {error}"))
            return
        job.fork_ms = job.elapsed_ms()
        self._put(job.progress(SnapshotState.WRITING))
        self._start(
            lambda emit: SnapshotUpload(stores.background, self._shard, job, writer, emit).run(),
            "snapshot",
        )

    def cancel(self) -> None:
        """Stop the work in progress; its messages are dropped."""
        self._given_up.set()
        self._given_up = Event()
        if self._writer is not None:
            self._writer.kill()
            self._writer = None
        self.restoring = None

    def poll(self) -> list[m.Message]:
        """The messages since the last call. Raises `ShardHalted`, and what a bug has raised."""
        messages: list[m.Message] = []
        while not self._ready.empty():
            given_up, message = self._ready.get()
            if given_up.is_set():
                continue
            if isinstance(message, Exception):
                raise message
            messages.append(message)
        return messages

    def _put(self, message: m.Message | Exception, given_up: Event | None = None) -> None:
        """`given_up`: of the work that has the message; None: it is not from another thread."""
        self._ready.put((given_up or self._given_up, message))
        self._wakeup.set()

    def _start(self, work: Callable[[_Worker], None], name: str) -> None:
        worker = _Worker(self._put, self._given_up)
        name = f"{name}-{self._shard}"
        Thread(target=worker.run, args=(work,), name=name, daemon=True).start()

    # --- restoring --------------------------------------------------------------------------

    def _restore(self, emit: _Worker) -> None:
        """Retries: the store or Kafka may be unavailable for a while."""
        started, logged = time.monotonic(), ""
        while not emit.is_cancelled:
            restored, why = self._try_restore(time.monotonic() - started)
            if restored is not None:
                emit(restored)
                return
            if why != logged:
                log.error("shard %d: cannot restore yet: %s; retrying", self._shard, why)
                logged = why
            time.sleep(RETRY_S)

    def _try_restore(self, waited_s: float) -> tuple[m.Restored | None, str]:
        """What to start with, or why that is not known yet. Raises `ShardHalted`."""
        probe = self._restorer.open_probe()
        try:
            return self._recover(probe), ""
        except JournalUnavailable as error:
            return None, str(error)
        except (StoreUnavailable, StoreUnusable) as error:
            if not self._can_do_without_store(probe, waited_s):
                return None, str(error)
            log.error("shard %d: %s; reading the whole journal instead", self._shard, error)
            return m.Restored(None), ""
        finally:
            probe.close()

    def _can_do_without_store(self, probe: Probe, waited_s: float) -> bool:
        if waited_s < STORE_TIMEOUT_S:
            return False
        try:
            return probe.bounds()[0] == 0
        except JournalUnavailable:
            return False

    def _recover(self, probe: Probe) -> m.Restored:
        started = time.monotonic()
        snapshots = _ShardSnapshots(
            self, self._stores.interactive if self._stores else None, self._shard
        )
        recovered = recover(snapshots, probe, self._restorer.load, self._restorer.fits)
        for name, reason in recovered.skipped.items():
            log.error("shard %d: snapshot %s is not used: %s", self._shard, name, reason)
        image, took_s = recovered.image, time.monotonic() - started
        self.restoring = None
        if image is None:
            log.info("shard %d: no snapshot; reading the whole journal", self._shard)
        else:
            log.info(
                "shard %d: restored snapshot %s in %.2f s: offset %d, seq %d",
                *(self._shard, image.snapshot_id, took_s, image.offset, image.journal.next_seq),
            )
        return m.Restored(image)


class _ShardSnapshots:
    """The `SnapshotSource` of one shard; reading one updates the manager's progress."""

    def __init__(self, manager: SnapshotManager, store: SnapshotStore | None, shard: int) -> None:
        self._manager, self._store = manager, store
        self._catalogue = store.catalogue(shard) if store else Catalogue([], {})

    @property
    def newest_first(self) -> Sequence[Manifest]:
        return self._catalogue.snapshots

    @property
    def unusable(self) -> Mapping[str, str]:
        return self._catalogue.unusable

    def read(self, manifest: Manifest) -> Iterator[bytes]:
        assert self._store is not None
        self._manager.restoring = progress = RestoreProgress(manifest.id, manifest.size)
        for chunk in self._store.read(manifest):
            progress.read += len(chunk)
            yield chunk


class _Worker:
    """Passes the messages of one piece of work to the engine, unless it was given up."""

    def __init__(
        self, put: Callable[[m.Message | Exception, Event], None], given_up: Event
    ) -> None:
        self._put, self._given_up = put, given_up

    @property
    def is_cancelled(self) -> bool:
        """The engine has given the work up, and drops further messages."""
        return self._given_up.is_set()

    def __call__(self, message: m.Message) -> None:
        self._put(message, self._given_up)

    def run(self, work: Callable[[_Worker], None]) -> None:
        """Passes on a bug's exception too, or the engine would wait forever."""
        try:
            work(self)
        except ShardHalted as error:
            self._put(error, self._given_up)
        except Exception as error:
            log.exception("bug in a snapshot thread")
            self._put(error, self._given_up)
