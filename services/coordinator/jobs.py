"""Snapshots under way: what the control and status topics say of them, and what to do next.

Pure, and the same for every coordinator that reads the same records: so a restart loses nothing
and two coordinators at once do no harm. Times are ms since the Unix epoch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from postjournal.cluster.states import ends_snapshot
from postjournal.cluster.status import SnapshotOrder, SnapshotProgress
from postjournal.cluster.view import ClusterView, ReplicaView

ANSWER_MS = 5_000
"""A replica that has said nothing to an order for so long did not get it."""

STALL_MS = 150_000
"""No progress for this time: longer than `object_store.BACKGROUND_TIMEOUT_S`."""

PAUSE_MS = 3_000
"""Before a replica is asked again that has failed."""

MAX_ATTEMPTS = 8
GIVE_UP_MS = 300_000
"""After so long without a standby to ask."""

LOST_MS = 600_000
"""What became of an order this old, of which no progress is known, cannot be told: the status topic
is read less far back than the control topic. Longer than `GIVE_UP_MS`, which is told to people."""

KEPT = 200
"""Ended jobs that are remembered."""

LAG_S = 5.0
"""A standby that is further behind is not in sync."""

Key = tuple[str, int]
"""Snapshot id and shard."""


@dataclass
class Attempt:
    """One replica asked once. `seen`: when Kafka got the order; `heard`: the last progress."""

    order: SnapshotOrder
    seen: int
    progress: SnapshotProgress | None = None
    heard: int = 0


@dataclass
class Job:
    """One snapshot of one shard. `end`: the record that ended it."""

    id: str
    shard: int
    attempts: list[Attempt] = field(default_factory=list)
    end: SnapshotProgress | None = None

    @property
    def latest(self) -> Attempt:
        """The attempt that counts."""
        return self.attempts[-1]

    @property
    def is_open(self) -> bool:
        """It is neither done nor given up."""
        return self.end is None

    @property
    def asked(self) -> int:
        """When it was asked for."""
        return self.attempts[0].order.asked


@dataclass(frozen=True)
class GiveUp:
    """No further attempt is worth it."""

    job: Job
    reason: str


@dataclass(frozen=True)
class TryAgain:
    """The next attempt; `reason`: why the one before is over."""

    order: SnapshotOrder
    reason: str


class JobBook:
    """The fold over orders and progress. Feed it each partition's records in order."""

    def __init__(self) -> None:
        """Nothing was ever asked for."""
        self.jobs: dict[Key, Job] = {}
        self.ended = 0  # how many have, ever
        self._early: dict[Key, tuple[SnapshotProgress, int]] = {}

    def on_order(self, order: SnapshotOrder, seen: int) -> None:
        """Of two orders for one attempt the first counts."""
        key = order.id, order.shard
        job = self.jobs.setdefault(key, Job(order.id, order.shard))
        if order.attempt == len(job.attempts) + 1 or not job.attempts:
            job.attempts.append(Attempt(order, seen))
        early = self._early.pop(key, None)
        if early is not None:
            self.on_progress(*early)
        self._forget_ended()

    def on_progress(self, progress: SnapshotProgress, seen: int) -> None:
        """Whoever is done, the snapshot is there; else only the latest attempt counts."""
        key = progress.id, progress.shard
        job = self.jobs.get(key)
        if job is None or progress.attempt > job.latest.order.attempt:
            self._early[key] = progress, seen
        if job is None:
            return
        if ends_snapshot(progress.state) and job.end is None:
            job.end = progress
            self.ended += 1
        latest = job.latest
        if (latest.order.replica, latest.order.attempt) == (progress.replica, progress.attempt):
            latest.progress, latest.heard = progress, seen

    def open_jobs(self, shard: int | None = None) -> list[Job]:
        """Those that are neither done nor given up."""
        return [job for job in self.jobs.values() if job.is_open and shard in (None, job.shard)]

    def forget(self, key: Key) -> None:
        """Nothing is to be done about this one: the store tells what there is of it."""
        if self.jobs.pop(key, None) is not None:
            self.ended += 1

    def forget_lost(self, now: int) -> None:
        """Old orders without any progress: they may be done, or even retired, long since."""
        for key, job in list(self.jobs.items()):
            is_unheard = all(each.progress is None for each in job.attempts)
            if job.is_open and is_unheard and now - job.latest.seen > LOST_MS:
                self.forget(key)

    def _forget_ended(self) -> None:
        ended = [key for key, job in self.jobs.items() if not job.is_open]
        for key in ended[: max(len(ended) - KEPT, 0)]:
            del self.jobs[key]
        while len(self._early) > KEPT:
            del self._early[next(iter(self._early))]


def first_order(
    snapshot_id: str, shard: int, view: ClusterView, now: int, *, allow_leader: bool
) -> SnapshotOrder | None:
    """Whom to ask; None when there is nobody."""
    found = candidates(view, shard, now, allow_leader=allow_leader)
    if not found:
        return None
    return SnapshotOrder(
        id=snapshot_id,
        shard=shard,
        replica=found[0],
        attempt=1,
        allow_leader=allow_leader,
        asked=now,
        time=now,
    )


def next_step(job: Job, view: ClusterView, now: int) -> TryAgain | GiveUp | None:
    """What to do about an open job now; None: wait."""
    attempt = job.latest
    reason = why_over(attempt, view, now)
    if reason is None:
        return None
    if attempt.order.attempt >= MAX_ATTEMPTS:
        return GiveUp(job, f"{MAX_ATTEMPTS} attempts failed; the last one: {reason}")
    allow_leader = attempt.order.allow_leader
    found = candidates(view, job.shard, now, allow_leader=allow_leader)
    if not found:
        is_late = now - job.asked > GIVE_UP_MS
        return GiveUp(job, f"there is no standby; before that: {reason}") if is_late else None
    tried = {each.order.replica for each in job.attempts}
    fresh = [name for name in found if name not in tried]
    if not fresh and now - max(attempt.heard, attempt.seen) < PAUSE_MS:
        return None
    order = SnapshotOrder(
        id=job.id,
        shard=job.shard,
        replica=(fresh or _least_recent_first(found, job))[0],
        attempt=attempt.order.attempt + 1,
        allow_leader=allow_leader,
        asked=job.asked,
        time=now,
    )
    return TryAgain(order, reason)


def why_over(attempt: Attempt, view: ClusterView, now: int) -> str | None:
    """Why this attempt will come to nothing; None: it may still succeed."""
    name, progress = attempt.order.replica, attempt.progress
    if progress is not None and progress.state == "failed":
        return f"{name}: {progress.error}"
    replica = view.replicas.get((name, attempt.order.shard))
    if replica is None or replica.is_silent(now):
        return f"{name} is silent"
    if progress is None:
        return f"{name} did not answer" if now - attempt.seen > ANSWER_MS else None
    if replica.status.incarnation != progress.incarnation and replica.seen > attempt.heard:
        return f"{name} has started again"
    if now - attempt.heard > STALL_MS:
        return f"{name} has not got on for {STALL_MS // 1000} s"
    return None


def candidates(view: ClusterView, shard: int, now: int, *, allow_leader: bool) -> list[str]:
    """Who can take a snapshot of `shard`: in-sync standbys, the best first, the leader last."""
    of_shard = [
        each
        for (_, its_shard), each in view.replicas.items()
        if its_shard == shard and not each.is_silent(now)
    ]
    standbys = [each for each in of_shard if _is_in_sync(each)]
    standbys.sort(key=lambda each: (each.status.lag or 0, each.status.replica))
    leaders = [each for each in of_shard if allow_leader and each.status.state == "leader"]
    return [each.status.replica for each in (*standbys, *leaders)]


def _is_in_sync(replica: ReplicaView) -> bool:
    return replica.status.state == "standby" and replica.status.lag_s < LAG_S


def _least_recent_first(names: Iterable[str], job: Job) -> list[str]:
    asked = {each.order.replica: each.order.attempt for each in job.attempts}
    return sorted(names, key=lambda name: asked.get(name, 0))
