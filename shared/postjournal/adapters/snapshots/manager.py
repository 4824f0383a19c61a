"""Snapshots taken and restored by threads, over a real store: the `Snapshots` port."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, Protocol

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
STORE_PATIENCE_S = 10.0
"""A store that is away for longer is not waited for, where the journal is whole."""

AnyImage = Image[Any, Any, Any]


class Look(RecoveryJournal, Protocol):
    """A `JournalProbe`."""

    def close(self) -> None:
        """Let go of it."""


@dataclass(frozen=True)
class Stores:
    """`patient` tries long, for what goes on in the background; `hasty` soon gives up."""

    patient: SnapshotStore
    hasty: SnapshotStore


@dataclass(frozen=True)
class Restorer:
    """`look` opens a look at the journal; `load`, `fits`: see `recover`."""

    look: Callable[[], Look]
    load: Loader
    fits: Callable[[Manifest], bool] = every


@dataclass
class Restoring:
    """How far a restore has got, in bytes of the object."""

    snapshot_id: str
    size: int
    read: int = 0


class StoreSnapshots:
    """See `ports.Snapshots`. The engine's thread asks; other threads do the work."""

    def __init__(self, shard: int, replica: str, stores: Stores | None, restorer: Restorer) -> None:
        """`replica`: its name; `stores` None: there are no snapshots."""
        self._shard, self._replica, self._stores = shard, replica, stores
        self._restorer = restorer
        self._ready: SimpleQueue[tuple[Event, m.Message | Exception]] = SimpleQueue()
        self._given_up = Event()  # of what is under way now
        self._writer: ForkedWriter | None = None
        self.restoring: Restoring | None = None

    def restore(self) -> None:
        """In a thread; see `_restore`."""
        self._start(self._restore, "restore")

    def take(self, asked: m.SnapshotRequested, image: AnyImage) -> None:
        """The fork is done here, in the engine's thread; all else in another."""
        job = SnapshotJob(asked, image.header(), self._replica)
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
            lambda tell: SnapshotUpload(stores.patient, self._shard, job, writer, tell).run(),
            "snapshot",
        )

    def cancel(self) -> None:
        """What comes of it is not told any more."""
        self._given_up.set()
        self._given_up = Event()
        if self._writer is not None:
            self._writer.kill()
            self._writer = None
        self.restoring = None

    def poll(self) -> list[m.Message]:
        """Raises what halts the shard."""
        messages: list[m.Message] = []
        while not self._ready.empty():
            given_up, message = self._ready.get()
            if given_up.is_set():
                continue
            if isinstance(message, Exception):
                raise message
            messages.append(message)
        return messages

    def _put(self, message: m.Message | Exception) -> None:
        self._ready.put((self._given_up, message))

    def _start(self, work: Callable[[_Worker], None], name: str) -> None:
        tell = _Worker(self._ready, self._given_up)
        name = f"{name}-{self._shard}"
        Thread(target=tell.whatever_comes_of, args=(work,), name=name, daemon=True).start()

    # --- restoring --------------------------------------------------------------------------

    def _restore(self, tell: _Worker) -> None:
        """Until it is known what to begin with: the store or Kafka may be away for a while."""
        started, said = time.monotonic(), ""
        while not tell.is_cancelled:
            restored, why = self._try_restore(time.monotonic() - started)
            if restored is not None:
                tell(restored)
                return
            if why != said:
                log.error("shard %d: cannot restore yet: %s; trying again", self._shard, why)
                said = why
            time.sleep(RETRY_S)

    def _try_restore(self, waited_s: float) -> tuple[m.Restored | None, str]:
        """Or why not yet. Raises `ShardHalted`."""
        look = self._restorer.look()
        try:
            return self._recover(look), ""
        except JournalUnavailable as error:
            return None, str(error)
        except (StoreUnavailable, StoreUnusable) as error:
            if not self._can_do_without(look, waited_s):
                return None, str(error)
            log.error("shard %d: %s; reading the whole journal instead", self._shard, error)
            return m.Restored(None), ""
        finally:
            look.close()

    def _can_do_without(self, look: Look, waited_s: float) -> bool:
        if waited_s < STORE_PATIENCE_S:
            return False
        try:
            return look.bounds()[0] == 0
        except JournalUnavailable:
            return False

    def _recover(self, look: Look) -> m.Restored:
        """Raises what `recover` does."""
        started = time.monotonic()
        snapshots = _OfShard(self, self._stores.hasty if self._stores else None, self._shard)
        recovered = recover(snapshots, look, self._restorer.load, self._restorer.fits)
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


class _OfShard:
    """See `SnapshotSource`."""

    def __init__(self, port: StoreSnapshots, store: SnapshotStore | None, shard: int) -> None:
        self._port, self._store = port, store
        self._catalogue = store.catalogue(shard) if store else Catalogue([], {})

    @property
    def newest_first(self) -> Sequence[Manifest]:
        return self._catalogue.snapshots

    @property
    def unusable(self) -> Mapping[str, str]:
        return self._catalogue.unusable

    def read(self, manifest: Manifest) -> Iterator[bytes]:
        assert self._store is not None
        self._port.restoring = progress = Restoring(manifest.id, manifest.size)
        for chunk in self._store.read(manifest):
            progress.read += len(chunk)
            yield chunk


class _Worker:
    """Hands messages of one piece of work to the engine, unless it was given up."""

    def __init__(
        self, ready: SimpleQueue[tuple[Event, m.Message | Exception]], given_up: Event
    ) -> None:
        self._ready, self._given_up = ready, given_up

    @property
    def is_cancelled(self) -> bool:
        """Nobody wants to hear of it any more."""
        return self._given_up.is_set()

    def __call__(self, message: m.Message) -> None:
        self._ready.put((self._given_up, message))

    def whatever_comes_of(self, work: Callable[[_Worker], None]) -> None:
        """Even a bug must be told, or the engine would wait for ever."""
        try:
            work(self)
        except ShardHalted as error:
            self._ready.put((self._given_up, error))
        except Exception as error:
            log.exception("a bug in a thread of the snapshots")
            self._ready.put((self._given_up, error))
