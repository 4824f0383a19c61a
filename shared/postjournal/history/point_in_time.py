"""Reads a shard's journal and snapshots without a replica: its state at any earlier point."""

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
from postjournal.core.sharding import ShardPlace
from postjournal.core.snapshot.manifest import Manifest
from postjournal.history.replay import AnyReader, Records, make_reader, replay
from postjournal.recovery import codec as snapshot_codec
from postjournal.recovery.choice import Recovery, SnapshotSource, recover

log = logging.getLogger(__name__)


class ReplayResult(msgspec.Struct, kw_only=True):
    """A shard at one point of its journal.

    `offset`, `seq`: the last record and command that the state includes; `within_entry`: the
    entry of that command has further commands; `time`: of the last entry, ms since the Unix epoch;
    `digest`: after the last whole entry; `snapshot`: the id of the one that the replay started
    from; `skipped`: snapshot → why it was not used; `answer`: the application's answer to a query;
    `set_back_ms`: the most by which an entry's time is before that of an earlier one.
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
    set_back_ms: int = 0


class RestoreDryRun(msgspec.Struct, kw_only=True):
    """The snapshot that a starting replica would restore.

    `snapshot`: its id, None: the whole journal would be read; `offset`, `seq`: the last record and
    command that it includes; `tail`: how many journal records follow; `skipped`: snapshot → why it
    would not be used.
    """

    shard: int
    snapshot: str | None
    offset: int
    seq: int
    tail: int
    seconds: float
    skipped: dict[str, str]


@dataclass(frozen=True)
class _NoSnapshots:
    """A `SnapshotSource` without snapshots: the whole journal is read.

    `store_error`: why the configured store could not be read; None: no store is configured.
    """

    store_error: StoreUnavailable | StoreUnusable | None = None
    newest_first: tuple[Manifest, ...] = ()
    unusable: Mapping[str, str] = field(default_factory=dict)

    def read(self, manifest: Manifest) -> Iterator[bytes]:
        raise AssertionError(f"no snapshot was listed, but {manifest.id} is read")


@dataclass
class _StoredSnapshots:
    """A `SnapshotSource` of a snapshot store."""

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
"""Called with the number of records read so far and their total."""


@dataclass
class PointInTime:
    """One shard's journal and snapshots; made by `open_point_in_time`."""

    settings: Settings
    topic: str
    shard: int
    application: Application[Any, Any, Any]
    journal: JournalProbe
    snapshots: SnapshotSource

    @property
    def _place(self) -> ShardPlace:
        return ShardPlace(self.shard, self.settings.shards)

    def recover(self, bound: Bound) -> Recovery:
        """Restore the newest snapshot that is not beyond `bound`.

        Raises what `recovery.choice.recover` raises. When the journal's beginning is deleted and
        the store could not be read, raises the store's `StoreUnavailable` or `StoreUnusable`
        instead of `RecordsMissing`, because a snapshot in the store may replace the beginning.
        """
        load = partial(
            snapshot_codec.restore,
            application=self.application,
            place=self._place,
            dedupe_window=self.settings.dedupe_window,
        )
        try:
            return recover(self.snapshots, self.journal, load, bound.fits)
        except RecordsMissing as error:
            if isinstance(self.snapshots, _NoSnapshots) and self.snapshots.store_error is not None:
                raise self.snapshots.store_error from error
            raise

    def dry_run(self) -> RestoreDryRun:
        """Restore as a starting replica would, without reading the journal. Raises as `recover`."""
        started = time.monotonic()
        recovered = self.recover(Bound())
        image, (_, end) = recovered.image, self.journal.bounds()
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
        """Replay up to `bound`; a `Bound` without limits: to the journal's end.

        Returns the reader, which holds the state, and a description of the point. Raises
        `PointNotReached`, `JournalUnavailable`, and what `recover` raises.
        """
        started = time.monotonic()
        recovered, (_, end) = self.recover(bound), self.journal.bounds()
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
            set_back_ms=reader.set_back_ms,
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
    """Open a shard of the system that the POSTJOURNAL_… variables describe.

    Raises `ConfigurationError`, and `JournalUnavailable` when Kafka does not answer.
    """
    settings = Settings.from_environment(environment)
    if shard >= settings.shards:
        raise ConfigurationError(
            f"shard {shard} does not exist: POSTJOURNAL_SHARDS is {settings.shards}, and shards "
            "are numbered from 0"
        )
    application = load_application(settings.app)
    topic = Topics.of(settings.namespace, (), ()).journal
    with closing(JournalProbe(settings.kafka, topic, shard)) as journal:
        snapshots = _snapshots(environment, settings.namespace, shard)
        yield PointInTime(settings, topic, shard, application, journal, snapshots)


def _snapshots(environment: Mapping[str, str], namespace: str, shard: int) -> SnapshotSource:
    """Without the snapshots if the store cannot be read, as a replica starts without them."""
    store_settings = StoreSettings.from_environment(environment)
    if store_settings is None:
        return _NoSnapshots()
    store = SnapshotStore(ObjectStore(store_settings, INTERACTIVE_TIMEOUT_S), namespace)
    try:
        return _StoredSnapshots(store, store.catalogue(shard))
    except (StoreUnavailable, StoreUnusable) as error:
        log.warning("replaying shard %d without snapshots: %s", shard, error)
        return _NoSnapshots(error)
