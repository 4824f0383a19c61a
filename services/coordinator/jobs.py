"""Snapshot jobs: the fold over orders and progress, and the next step of each job.

Pure, and the same for every coordinator that reads the same records of the control and status
topics. So a restarted coordinator continues every job, and two coordinators at once are safe.
Times are ms since the Unix epoch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from postjournal.cluster.states import ReplicaState, SnapshotState, ends_snapshot
from postjournal.cluster.status import SnapshotOrder, SnapshotProgress
from postjournal.cluster.view import ClusterView, ReplicaView

ANSWER_TIMEOUT_MS = 5_000
"""A replica that has reported no progress within this time has not received the order."""

STALL_TIMEOUT_MS = 150_000
"""An attempt without progress for this time has failed. Longer than the time that a replica waits
for the store, `object_store.BACKGROUND_TIMEOUT_S`."""

RETRY_PAUSE_MS = 3_000
"""Before a replica whose attempt failed gets the next attempt too."""

MAX_ATTEMPTS = 8

GIVE_UP_MS = 300_000
"""A job of this age is given up when there is no standby."""

LOST_MS = 600_000
"""An order of this age without any progress is forgotten: its end cannot be known, because the
status topic is read less far back than the control topic. Longer than `GIVE_UP_MS`, so that a job
that is given up is reported before it is forgotten."""

MAX_ENDED_JOBS = 200

MAX_LAG_S = 5.0
"""A standby that lags more takes no snapshot."""

JobKey = tuple[str, int]
"""Snapshot id and shard."""


@dataclass
class Attempt:
    """An order to one replica.

    `ordered_ms`: when the order arrived; `progress`: the last one reported, None: none was;
    `progress_ms`: when it arrived, or 0. See `Arrivals`.
    """

    order: SnapshotOrder
    ordered_ms: int
    progress: SnapshotProgress | None = None
    progress_ms: int = 0


@dataclass
class Job:
    """One snapshot of one shard. `end`: the record that ended it, None while it is open."""

    id: str
    shard: int
    attempts: list[Attempt] = field(default_factory=list)
    end: SnapshotProgress | None = None

    @property
    def latest(self) -> Attempt:
        """The last attempt; the progress of earlier ones is ignored, unless one is done."""
        return self.attempts[-1]

    @property
    def is_open(self) -> bool:
        """Whether it is neither done nor given up."""
        return self.end is None

    @property
    def requested_ms(self) -> int:
        """When the snapshot was requested."""
        return self.attempts[0].order.asked


@dataclass(frozen=True)
class GiveUp:
    """A next step: no further attempt."""

    job: Job
    reason: str


@dataclass(frozen=True)
class TryAgain:
    """A next step: another attempt. `reason`: why the attempt before it failed."""

    order: SnapshotOrder
    reason: str


class JobTable:
    """The fold over orders and progress; apply each partition's records in order.

    `ended_count`: how many jobs have ended so far, including those that are forgotten.
    """

    def __init__(self) -> None:
        self.jobs: dict[JobKey, Job] = {}
        self.ended_count = 0
        self._early: dict[JobKey, tuple[SnapshotProgress, int]] = {}

    def on_order(self, order: SnapshotOrder, seen: int) -> None:
        """Apply an order; of two orders for one attempt, the first counts.

        `seen`: when the order arrived.
        """
        key = order.id, order.shard
        job = self.jobs.setdefault(key, Job(order.id, order.shard))
        if order.attempt == len(job.attempts) + 1 or not job.attempts:
            job.attempts.append(Attempt(order, seen))
        early = self._early.pop(key, None)
        if early is not None:
            self.on_progress(*early)
        self._forget_ended()

    def on_progress(self, progress: SnapshotProgress, seen: int) -> None:
        """Apply the progress of an attempt. `seen`: when it arrived.

        A snapshot is done whichever attempt reports it; otherwise only the latest attempt counts.
        Progress that is read before its order, which is in another topic, waits for the order.
        """
        key = progress.id, progress.shard
        job = self.jobs.get(key)
        if job is None or progress.attempt > job.latest.order.attempt:
            self._early[key] = progress, seen
        if job is None:
            return
        if ends_snapshot(progress.state) and job.end is None:
            job.end = progress
            self.ended_count += 1
        latest = job.latest
        if (latest.order.replica, latest.order.attempt) == (progress.replica, progress.attempt):
            latest.progress, latest.progress_ms = progress, seen

    def shift(self, by_ms: int) -> None:
        """Move all arrivals so far; see `Arrivals.settle`."""
        for job in self.jobs.values():
            for attempt in job.attempts:
                attempt.ordered_ms += by_ms
                if attempt.progress is not None:
                    attempt.progress_ms += by_ms
        self._early = {key: (early, at + by_ms) for key, (early, at) in self._early.items()}

    def open_jobs(self, shard: int | None = None) -> list[Job]:
        """The jobs that are neither done nor given up, of one shard or of all."""
        return [job for job in self.jobs.values() if job.is_open and shard in (None, job.shard)]

    def forget(self, key: JobKey) -> None:
        """Remove a job that needs no further step; it counts as ended."""
        if self.jobs.pop(key, None) is not None:
            self.ended_count += 1

    def forget_lost(self, now: int) -> None:
        """Remove open jobs that are older than `LOST_MS` and never reported progress.

        They may be done, or their snapshots even deleted, long ago.
        """
        for key, job in list(self.jobs.items()):
            has_no_progress = all(attempt.progress is None for attempt in job.attempts)
            if job.is_open and has_no_progress and now - job.latest.ordered_ms > LOST_MS:
                self.forget(key)

    def _forget_ended(self) -> None:
        ended = [key for key, job in self.jobs.items() if not job.is_open]
        for key in ended[: max(len(ended) - MAX_ENDED_JOBS, 0)]:
            del self.jobs[key]
        while len(self._early) > MAX_ENDED_JOBS:
            del self._early[next(iter(self._early))]


def first_order(
    snapshot_id: str, shard: int, view: ClusterView, now: int, *, allow_leader: bool
) -> SnapshotOrder | None:
    """The order for a job's first attempt; None when no replica can take the snapshot."""
    replicas = candidates(view, shard, now, allow_leader=allow_leader)
    if not replicas:
        return None
    return SnapshotOrder(
        id=snapshot_id,
        shard=shard,
        replica=replicas[0],
        attempt=1,
        allow_leader=allow_leader,
        asked=now,
        time=now,
    )


def next_step(job: Job, view: ClusterView, now: int) -> TryAgain | GiveUp | None:
    """The next step of an open job at the time `now`; None: wait."""
    attempt = job.latest
    reason = failure_reason(attempt, view, now)
    if reason is None:
        return None
    if attempt.order.attempt >= MAX_ATTEMPTS:
        return GiveUp(job, f"{MAX_ATTEMPTS} attempts failed; the last one: {reason}")
    replicas = candidates(view, job.shard, now, allow_leader=attempt.order.allow_leader)
    if not replicas:
        return _give_up_if_late(job, now, reason)
    tried = {attempt.order.replica for attempt in job.attempts}
    untried = [name for name in replicas if name not in tried]
    if not untried and now - max(attempt.progress_ms, attempt.ordered_ms) < RETRY_PAUSE_MS:
        return None
    replica = (untried or _least_recent_first(replicas, job))[0]
    return TryAgain(_next_order(job, replica, now), reason)


def _give_up_if_late(job: Job, now: int, reason: str) -> GiveUp | None:
    if now - job.requested_ms <= GIVE_UP_MS:
        return None
    return GiveUp(
        job, f"no standby {GIVE_UP_MS // 1000} s after the request; before that: {reason}"
    )


def _next_order(job: Job, replica: str, now: int) -> SnapshotOrder:
    latest = job.latest.order
    return SnapshotOrder(
        id=job.id,
        shard=job.shard,
        replica=replica,
        attempt=latest.attempt + 1,
        allow_leader=latest.allow_leader,
        asked=job.requested_ms,
        time=now,
    )


def failure_reason(attempt: Attempt, view: ClusterView, now: int) -> str | None:
    """Why this attempt has failed; None while it may succeed."""
    name, progress = attempt.order.replica, attempt.progress
    if progress is not None and progress.state == SnapshotState.FAILED:
        return f"{name}: {progress.error}"
    replica = view.replicas.get((name, attempt.order.shard))
    if replica is None or replica.is_silent(now):
        return f"{name} is silent"
    if progress is None:
        return f"{name} did not answer" if now - attempt.ordered_ms > ANSWER_TIMEOUT_MS else None
    if replica.status.incarnation != progress.incarnation and replica.seen > attempt.progress_ms:
        return f"{name} has restarted"
    if now - attempt.progress_ms > STALL_TIMEOUT_MS:
        return f"{name} reported no progress for {STALL_TIMEOUT_MS // 1000} s"
    return None


def candidates(view: ClusterView, shard: int, now: int, *, allow_leader: bool) -> list[str]:
    """The replicas that can take a snapshot of `shard`, best first.

    These are the standbys with a small lag, those with the smallest first; with `allow_leader` the
    leader comes last. A standby that can take a snapshot can also take over.
    """
    of_shard = [
        replica
        for (_, shard_of_replica), replica in view.replicas.items()
        if shard_of_replica == shard and not replica.is_silent(now)
    ]
    standbys = [replica for replica in of_shard if _is_caught_up_standby(replica)]
    standbys.sort(key=lambda replica: (replica.status.lag or 0, replica.status.replica))
    leaders = [replica for replica in of_shard if replica.status.state == ReplicaState.LEADER]
    chosen = [*standbys, *leaders] if allow_leader else standbys
    return [replica.status.replica for replica in chosen]


def _is_caught_up_standby(replica: ReplicaView) -> bool:
    return replica.status.state == ReplicaState.STANDBY and replica.status.lag_s < MAX_LAG_S


def _least_recent_first(names: Iterable[str], job: Job) -> list[str]:
    last_attempts = {attempt.order.replica: attempt.order.attempt for attempt in job.attempts}
    return sorted(names, key=lambda name: last_attempts.get(name, 0))
