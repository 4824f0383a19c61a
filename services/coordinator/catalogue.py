"""Snapshots as the HTTP interface tells them: those in the store, those under way, those that
failed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock
from time import monotonic

import msgspec

from postjournal.adapters.snapshots.catalogue import Catalogue, SnapshotStore
from postjournal.cluster.status import SnapshotProgress
from postjournal.core.snapshot.manifest import Manifest
from services.coordinator.following import ClusterState
from services.coordinator.jobs import Job

FRESH_S = 1.0
"""The store is listed at most this often, however many ask."""


class Row(msgspec.Struct, kw_only=True):
    """One snapshot of one shard.

    `state`: ordered, writing, verifying, done or failed; `progress`: 0 to 1, or None when it
    cannot be told; the rest as in the manifest, None while it is not known.
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
    """Safe to use from many threads."""

    def __init__(self, store: SnapshotStore, cluster_state: ClusterState, shards: int) -> None:
        """Asks the store when it is asked."""
        self._store, self._knowledge, self._shards = store, cluster_state, shards
        self._lock = Lock()
        self._listed: dict[int, _Listing] = {}

    def rows(self) -> list[Row]:
        """All, newest first. Raises what the store does."""
        rows = [row for shard in range(self._shards) for row in self._of_shard(shard)]
        return sorted(rows, key=lambda row: (row.time, row.id, row.shard), reverse=True)

    def of_id(self, snapshot_id: str) -> list[Row]:
        """One row for each shard that has it."""
        return [row for row in self.rows() if row.id == snapshot_id]

    def _of_shard(self, shard: int) -> Iterable[Row]:
        ended, jobs = self._knowledge.look(
            lambda _, book: (book.ended, [j for j in book.jobs.values() if j.shard == shard])
        )
        stored = self._catalogue(shard, ended).snapshots
        ids = {each.id for each in stored}
        typical = stored[0].size if stored else 0
        yield from map(_of_manifest, stored)
        yield from (_of_job(job, typical) for job in jobs if _is_worth_telling(job, ids))

    def _catalogue(self, shard: int, ended: int) -> Catalogue:
        """No older than the end of any job."""
        with self._lock:
            listed = self._listed.get(shard)
            if listed is None or listed.is_old(ended):
                catalogue = self._store.catalogue(shard)
                self._listed[shard] = listed = _Listing(monotonic(), ended, catalogue)
            return listed.catalogue


@dataclass(frozen=True)
class _Listing:
    """`ended`: how many jobs had, when it was made."""

    made: float
    ended: int
    catalogue: Catalogue

    def is_old(self, ended: int) -> bool:
        return self.ended != ended or monotonic() - self.made > FRESH_S


def _is_worth_telling(job: Job, stored: set[str]) -> bool:
    """One that is done is told by the store; by the store's silence when it was deleted."""
    return job.id not in stored and (job.is_open or job.end.state != "done")  # type: ignore[union-attr]


def _of_manifest(manifest: Manifest) -> Row:
    return Row(
        id=manifest.id,
        shard=manifest.shard,
        state="done",
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


def _of_job(job: Job, typical: int) -> Row:
    """`typical`: bytes of the snapshot before."""
    attempt = job.latest
    row = Row(
        id=job.id,
        shard=job.shard,
        state="ordered",
        progress=0.0,
        attempt=attempt.order.attempt,
        replica=attempt.order.replica,
        time=job.asked,
    )
    told = job.end or attempt.progress
    if told is None:
        return row
    row.error, row.state = told.error, _state(job, told)
    if told.offset >= 0:
        row.epoch, row.offset, row.seq = told.epoch, told.offset, told.seq
    row.duration_ms, row.progress = told.duration_ms, _progress(told, typical)
    return row


def _state(job: Job, told: SnapshotProgress) -> str:
    if told.state == "given_up":
        return "failed"
    if told.state == "failed":  # another attempt follows
        return "ordered"
    # Done, and its manifest will be seen in a moment.
    return "verifying" if told.state == "done" and job.is_open else told.state


def _progress(told: SnapshotProgress, typical: int) -> float | None:
    """Writing is most of the work; how much it will be is known from the one before."""
    if told.state == "verifying":
        return round(0.9 + 0.1 * told.read_back / max(told.size, 1), 3)
    if told.state != "writing" or not typical:
        return None
    return round(0.9 * min(told.written / typical, 1.0), 3)
