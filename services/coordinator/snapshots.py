"""The snapshots that the HTTP API lists: stored ones, those in progress, and failed ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock
from time import monotonic

import msgspec

from postjournal.adapters.snapshots.catalogue import Catalogue, SnapshotStore
from postjournal.cluster.states import SnapshotState
from postjournal.cluster.status import SnapshotOrder, SnapshotProgress
from postjournal.core.snapshot.manifest import Manifest
from services.coordinator.cluster_state import ClusterState
from services.coordinator.jobs import Job

MAX_AGE_S = 1.0
"""The store is listed at most this often, however many clients ask."""

WRITING_SHARE = 0.9
"""Of the progress; the rest is reading the object back."""


class Row(msgspec.Struct, kw_only=True):
    """One snapshot of one shard.

    `state`: ordered, writing, verifying, done or failed; `progress`: 0 to 1, or null when it is
    unknown; the other fields are as in the manifest, or null while they are unknown.
    """

    id: str
    shard: int
    state: str
    progress: float | None
    attempt: int | None = None
    replica: str
    epoch: int | None = None
    offset: int | None = None
    seq: int | None = None
    digest: str | None = None
    schema_version: int | None = None
    sha256: str | None = None
    size: int | None = None
    content_size: int | None = None
    duration_ms: int | None = None
    time: int
    error: str | None = None


class Snapshots:
    """All snapshots of a system. Safe to use from many threads."""

    def __init__(self, store: SnapshotStore, cluster_state: ClusterState, shards: int) -> None:
        """Reads nothing from the store before the first call."""
        self._store, self._cluster_state, self._shards = store, cluster_state, shards
        self._lock = Lock()
        self._listings: dict[int, _Listing] = {}

    def rows(self) -> list[Row]:
        """All snapshots, newest first. Raises `StoreUnavailable` and `StoreUnusable`."""
        rows = [row for shard in range(self._shards) for row in self._of_shard(shard)]
        return sorted(rows, key=lambda row: (row.time, row.id, row.shard), reverse=True)

    def of_id(self, snapshot_id: str) -> list[Row]:
        """The rows of one snapshot, ordered by shard; raises as `rows`.

        A shard has two rows if a slow attempt and the one after it were both stored.
        """
        rows = [row for row in self.rows() if row.id == snapshot_id]
        return sorted(rows, key=lambda row: row.shard)

    def _of_shard(self, shard: int) -> Iterable[Row]:
        ended_count, jobs = self._cluster_state.read(
            lambda _, table: (
                table.ended_count,
                [job for job in table.jobs.values() if job.shard == shard],
            )
        )
        stored = self._catalogue(shard, ended_count).snapshots
        stored_ids = {manifest.id for manifest in stored}
        expected_bytes = stored[0].size if stored else 0
        yield from map(_row_of_manifest, stored)
        for job in jobs:
            if job.id not in stored_ids and not _is_done(job):
                yield _row_of_job(job, expected_bytes)

    def _catalogue(self, shard: int, ended_count: int) -> Catalogue:
        """The catalogue, at most `MAX_AGE_S` old and not older than the end of any job."""
        with self._lock:
            listing = self._listings.get(shard)
            if listing is None or listing.is_outdated(ended_count):
                catalogue = self._store.catalogue(shard)
                self._listings[shard] = listing = _Listing(monotonic(), ended_count, catalogue)
            return listing.catalogue


@dataclass(frozen=True)
class _Listing:
    """`ended_count`: of the jobs, when the store was listed."""

    listed_s: float
    ended_count: int
    catalogue: Catalogue

    def is_outdated(self, ended_count: int) -> bool:
        return self.ended_count != ended_count or monotonic() - self.listed_s > MAX_AGE_S


def row_of_order(order: SnapshotOrder) -> Row:
    """The row of a snapshot of which no replica has reported any progress."""
    return Row(
        id=order.id,
        shard=order.shard,
        state=SnapshotState.ORDERED,
        progress=0.0,
        attempt=order.attempt,
        replica=order.replica,
        time=order.asked,
    )


def _row_of_manifest(manifest: Manifest) -> Row:
    return Row(
        id=manifest.id,
        shard=manifest.shard,
        state=SnapshotState.DONE,
        progress=1.0,
        replica=manifest.replica,
        epoch=manifest.epoch,
        offset=manifest.offset,
        seq=manifest.seq,
        digest=manifest.digest,
        schema_version=manifest.schema_version,
        sha256=manifest.sha256,
        size=manifest.size,
        content_size=manifest.content_size,
        duration_ms=manifest.duration_ms,
        time=manifest.time,
    )


def _row_of_job(job: Job, expected_bytes: int) -> Row:
    """`expected_bytes`: the size of the snapshot before it, 0: unknown."""
    row = row_of_order(job.latest.order)
    progress = job.end or job.latest.progress
    if progress is None:
        return row
    row.error, row.state = progress.error, _state(progress)
    if progress.offset >= 0:
        row.epoch, row.offset, row.seq = progress.epoch, progress.offset, progress.seq
    row.duration_ms, row.progress = progress.duration_ms, _progress(progress, expected_bytes)
    return row


def _is_done(job: Job) -> bool:
    """The store lists a job that is done; if it does not, the snapshot has been deleted."""
    return job.end is not None and job.end.state == SnapshotState.DONE


def _state(progress: SnapshotProgress) -> str:
    if progress.state == SnapshotState.GIVEN_UP:
        return SnapshotState.FAILED
    if progress.state == SnapshotState.FAILED:  # another attempt follows
        return SnapshotState.ORDERED
    return progress.state


def _progress(progress: SnapshotProgress, expected_bytes: int) -> float | None:
    if progress.state == SnapshotState.VERIFYING:
        share = progress.read_back / max(progress.size, 1)
        return round(WRITING_SHARE + (1 - WRITING_SHARE) * share, 3)
    if progress.state != SnapshotState.WRITING or not expected_bytes:
        return None
    return round(WRITING_SHARE * min(progress.written / expected_bytes, 1.0), 3)
