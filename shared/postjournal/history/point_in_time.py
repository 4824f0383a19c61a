"""A shard's journal and snapshots, read from outside: its state at any point of its past."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from postjournal.adapters.kafka.journal_probe import JournalProbe
from postjournal.adapters.kafka.partition_reader import KafkaPartition
from postjournal.adapters.snapshots.catalogue import Catalogue, SnapshotStore
from postjournal.adapters.snapshots.object_store import INTERACTIVE_TIMEOUT_S, ObjectStore
from postjournal.app import load_application
from postjournal.cluster.topics import Topics
from postjournal.config.settings import Settings, StoreSettings
from postjournal.core.application import Application
from postjournal.core.errors import (
    ConfigurationError,
    RecordsMissing,
    StoreUnavailable,
    StoreUnusable,
)
from postjournal.core.reader import Bound
from postjournal.core.snapshot.manifest import Manifest
from postjournal.core.state.state_machine import ShardPlace
from postjournal.history.replay import AnyReader, Records, make_reader, replay
from postjournal.recovery import codec as snapshot_codec
from postjournal.recovery.choice import Recovery, SnapshotSource, recover

log = logging.getLogger(__name__)


class ReplayResult(msgspec.Struct, kw_only=True):
    """A shard at one point of its journal.

    `offset`, `seq`: of the last record and command that the state accounts for; `within_entry`:
    the entry that holds the command goes on after it; `time`: of the last entry, ms since the
    Unix epoch; `digest`: after the last whole entry; `snapshot`: from which it was replayed.
    """

    shard: int
    application: str
    offset: int
    seq: int
    within_entry: bool
    epoch: int
    time: int
    digest: str
    snapshot: str | None
    skipped: dict[str, str]
    seconds: float
    answer: Any = None


class RestoreDryRun(msgspec.Struct, kw_only=True):
    """What a replica would begin with. `tail`: journal records to be read after it."""

    shard: int
    snapshot: str | None
    offset: int
    seq: int
    tail: int
    seconds: float
    skipped: dict[str, str]


@dataclass(frozen=True)
class _NoSnapshots:
    """Without a store the whole journal is read. `away`: why, where there should be one."""

    away: StoreUnavailable | StoreUnusable | None = None
    newest_first: tuple[Manifest, ...] = ()
    unusable: Mapping[str, str] = field(default_factory=dict)

    def read(self, manifest: Manifest) -> Iterator[bytes]:
        """Nobody asks."""
        raise AssertionError(manifest)


@dataclass
class _OfStore:
    """See `SnapshotSource`."""

    store: SnapshotStore
    catalogue: Catalogue

    @property
    def newest_first(self) -> list[Manifest]:
        return self.catalogue.snapshots

    @property
    def unusable(self) -> Mapping[str, str]:
        return self.catalogue.unusable

    def read(self, manifest: Manifest) -> Iterator[bytes]:
        return self.store.read(manifest)


Show = Callable[[int, int], object]


@dataclass
class PointInTime:
    """One shard's journal and snapshots."""

    settings: Settings
    topic: str
    shard: int
    application: Application[Any, Any, Any]
    look: JournalProbe
    snapshots: SnapshotSource

    @property
    def _place(self) -> ShardPlace:
        return ShardPlace(self.shard, self.settings.shards)

    def recover(self, bound: Bound) -> Recovery:
        """The nearest snapshot before the bound.

        Raises what `recover` does, and `StoreUnavailable` or `StoreUnusable` when
        only what is in the store could help.
        """
        load = partial(
            snapshot_codec.restore,
            application=self.application,
            place=self._place,
            dedupe_window=self.settings.dedupe_window,
        )
        try:
            return recover(self.snapshots, self.look, load, bound.fits)
        except RecordsMissing as error:
            if isinstance(self.snapshots, _NoSnapshots) and self.snapshots.away is not None:
                raise self.snapshots.away from error
            raise

    def dry_run(self) -> RestoreDryRun:
        """What a replica would do."""
        started = time.monotonic()
        recovered = self.recover(Bound())
        image, (_, end) = recovered.image, self.look.bounds()
        offset = image.offset if image else -1
        return RestoreDryRun(
            shard=self.shard,
            snapshot=image.snapshot_id if image else None,
            offset=offset,
            seq=image.journal.next_seq - 1 if image else -1,
            tail=end - offset - 1,
            seconds=round(time.monotonic() - started, 3),
            skipped=recovered.skipped,
        )

    def replay(self, bound: Bound, show: Show) -> tuple[AnyReader, ReplayResult]:
        """`show` is told, while it reads, how many of how many records.

        Raises `PointNotReached`, and what recovering and reading raise.
        """
        started = time.monotonic()
        recovered, (_, end) = self.recover(bound), self.look.bounds()
        window = self.settings.dedupe_window
        reader = make_reader(self.application, self._place, window, bound)
        first = recovered.image.offset + 1 if recovered.image else 0
        last = end if bound.offset is None else min(bound.offset + 1, end)
        records = partial(self._records, end=end)
        total = max(last - first, 0)
        replay(reader, recovered.image, records, end, lambda at: show(at - first, total))
        journal = reader.journal
        return reader, ReplayResult(
            shard=self.shard,
            application=self.application.name,
            offset=reader.position - 1,
            seq=journal.next_seq - 1,
            within_entry=reader.is_within_entry,
            epoch=journal.epoch,
            time=journal.time,
            digest=journal.digest,
            snapshot=recovered.image.snapshot_id if recovered.image else None,
            skipped=recovered.skipped,
            seconds=round(time.monotonic() - started, 3),
        )

    def _records(self, start: int, end: int) -> Records:
        partition = KafkaPartition(self.settings.kafka, self.topic, self.shard, start, end)
        for chunk in partition.chunks(start):
            yield list(zip(chunk.offsets, chunk.values, strict=True))


@contextmanager
def open_point_in_time(environment: Mapping[str, str], shard: int) -> Iterator[PointInTime]:
    """Of the system that the POSTJOURNAL_… variables describe.

    Raises `ConfigurationError` and `JournalUnavailable`.
    """
    settings = Settings.from_environment(environment)
    if shard >= settings.shards:
        raise ConfigurationError(f"there are {settings.shards} shards, from 0")
    application = load_application(settings.app)
    topic = Topics.of(settings.namespace, (), ()).journal
    with closing(JournalProbe(settings.kafka, topic, shard)) as look:
        snapshots = _snapshots(environment, settings.namespace, shard)
        yield PointInTime(settings, topic, shard, application, look, snapshots)


def _snapshots(environment: Mapping[str, str], namespace: str, shard: int) -> SnapshotSource:
    """A store that does not answer is told and done without, as a replica does."""
    store_settings = StoreSettings.from_environment(environment)
    if store_settings is None:
        return _NoSnapshots()
    store = SnapshotStore(ObjectStore(store_settings, INTERACTIVE_TIMEOUT_S), namespace)
    try:
        return _OfStore(store, store.catalogue(shard))
    except (StoreUnavailable, StoreUnusable) as error:
        log.warning("no snapshots: %s", error)
        return _NoSnapshots(error)
