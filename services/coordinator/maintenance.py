"""What the coordinator does by itself: further attempts, the schedule, retention, trimming."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Thread
from typing import Protocol

from postjournal.adapters.snapshots.catalogue import SnapshotStore
from postjournal.cluster.status import ControlRecord, SnapshotProgress, StatusRecord
from postjournal.core.errors import (
    JournalUnavailable,
    SnapshotUnusable,
    StoreUnavailable,
    StoreUnusable,
)
from postjournal.core.snapshot.manifest import Manifest
from services.coordinator import policy
from services.coordinator.following import ClusterState, now_ms
from services.coordinator.jobs import GiveUp, TryAgain, first_order, next_step
from services.coordinator.metrics import Metrics
from services.coordinator.policy import Schedule

log = logging.getLogger(__name__)

LOOK_S = 0.5
TIDY_MS = 10_000
"""Retention and schedule are looked at this often, and when a snapshot has ended."""

LEFTOVER_MS = 3_600_000
"""An object without a manifest that nobody has touched for an hour is no upload any more."""

EXPECTED = (JournalUnavailable, StoreUnavailable, StoreUnusable)
"""Faults of the world: told once until all is well again."""

COORDINATOR = "coordinator"
"""Stands for a replica's name in what a coordinator says."""


class Trimmer(Protocol):
    """Deletes the beginning of a shard's journal."""

    def trim(self, shard: int, before: int) -> None:
        """Records with offsets below `before`. Raises `JournalUnavailable`."""


@dataclass(frozen=True)
class Rules:
    """`keep`: snapshots of each shard; `trimmer` None: the journal is left whole."""

    schedule: Schedule
    keep: int
    trimmer: Trimmer | None


class Part(Protocol):
    """A part of the coordinator that may be unavailable."""

    @property
    def unavailable_reason(self) -> str | None:
        """Why it cannot work; None when it works."""


class Appender(Protocol):
    """Of the control or the status topic; see `ControlLog`."""

    def append(self, record: ControlRecord | StatusRecord) -> None:
        """Raises `JournalUnavailable`."""


@dataclass(frozen=True)
class MaintenanceDeps:
    """What the maintenance looks at and writes to."""

    cluster_state: ClusterState
    follower: Part
    store: SnapshotStore
    control: Appender
    status: Appender
    shards: int


class Maintenance:
    """One thread. Everything that it does may be done twice, and by two coordinators."""

    def __init__(
        self,
        around: MaintenanceDeps,
        rules: Rules,
        metrics: Metrics,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        """Does nothing before `start`."""
        self._knowledge, self._follower, self._store = (
            around.cluster_state,
            around.follower,
            around.store,
        )
        self._control, self._status, self._rules = around.control, around.status, rules
        self._shards, self._metrics, self._clock = around.shards, metrics, clock
        self._since = clock()
        self._tidy_due = 0
        self._ended = 0  # how many jobs had when it was tidied last
        self._trimmed: dict[int, str] = {}  # shard → id of the anchor it was trimmed to
        self._said: set[str] = set()
        self.unavailable_reason: str | None = "the snapshot store has not been tried yet"
        self._closing = Event()
        self._thread = Thread(target=self._run, name="maintenance", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End the thread, when the request that it waits for is answered."""
        self._closing.set()
        self._thread.join(2.0)

    def _run(self) -> None:
        while not self._closing.wait(LOOK_S):
            try:
                self.turn()
            except Exception:
                log.exception("a bug; going on")

    def turn(self) -> None:
        """Look once at everything."""
        if self.unavailable_reason:
            self._check_store()
        if self._follower.unavailable_reason:
            return
        try:
            self._advance_jobs()
            ended = self._knowledge.look(lambda _, jobs: jobs.ended)
            if not self.unavailable_reason and (
                self._clock() >= self._tidy_due or ended != self._ended
            ):
                self._ended = ended
                self._tidy_due = self._clock() + TIDY_MS
                for shard in range(self._shards):
                    self._apply_retention(shard)
        except EXPECTED as error:
            self._say_once(str(error))
        else:
            self._said.clear()

    # --- the store --------------------------------------------------------------------------

    def _check_store(self) -> None:
        try:
            self._store.check()
        except (StoreUnusable, StoreUnavailable) as error:
            self.unavailable_reason = str(error)
            self._metrics.store_up.set(0)
            self._say_once(str(error))
        else:
            self.unavailable_reason = None
            self._metrics.store_up.set(1)
            log.info("snapshots are kept in %s", self._store.url)

    def _say_once(self, error: str) -> None:
        if error not in self._said:
            self._said.add(error)
            log.error("%s; trying again until it works", error)

    # --- snapshots under way ----------------------------------------------------------------

    def _advance_jobs(self) -> None:
        now = self._clock()
        self._knowledge.forget_lost(now)
        steps = self._knowledge.look(
            lambda view, jobs: [next_step(job, view, now) for job in jobs.open_jobs()]
        )
        for step in steps:
            if isinstance(step, TryAgain):
                self._try_again(step)
            elif isinstance(step, GiveUp):
                self._give_up(step)

    def _try_again(self, step: TryAgain) -> None:
        """Unless it is in the store: the record that says so may not have been read."""
        order = step.order
        if any(each.id == order.id for each in self._store.catalogue(order.shard).snapshots):
            log.info("snapshot %s of shard %d is in the store", order.id, order.shard)
            self._knowledge.forget_job((order.id, order.shard))
            return
        log.warning(
            "snapshot %s of shard %d: %s; attempt %d is for %s",
            *(order.id, order.shard, step.reason, order.attempt, order.replica),
        )
        self._metrics.attempts_failed.labels(str(order.shard)).inc()
        self._control.append(order)

    def _give_up(self, step: GiveUp) -> None:
        job = step.job
        log.error("snapshot %s of shard %d is given up: %s", job.id, job.shard, step.reason)
        self._metrics.failed.labels(str(job.shard)).inc()
        order = job.latest.order
        self._status.append(
            SnapshotProgress(
                id=job.id,
                shard=job.shard,
                replica=COORDINATOR,
                incarnation=COORDINATOR,
                attempt=order.attempt,
                state="given_up",
                error=step.reason,
                time=self._clock(),
            )
        )

    # --- schedule, retention, trimming ------------------------------------------------------

    def _apply_retention(self, shard: int) -> None:
        snapshots = self._store.catalogue(shard).snapshots
        self._metrics.show(shard, snapshots, self._clock())
        self._ask_if_due(shard, snapshots[0] if snapshots else None)
        self._retire(shard, snapshots)
        for name in self._store.clean(shard, self._clock() - LEFTOVER_MS):
            log.info("shard %d: deleted %s, left by a replica that died", shard, name)
        if self._rules.trimmer is not None:
            self._trim(self._rules.trimmer, shard, snapshots[: self._rules.keep])

    def _ask_if_due(self, shard: int, newest: Manifest | None) -> None:
        now = self._clock()
        found = self._knowledge.look(lambda view, _: view.shards.get(shard))
        seq = found.seq if found is not None else 0
        snapshot_id = self._rules.schedule.due(newest, seq, now, self._since)
        if snapshot_id is None or self._knowledge.look(
            lambda _, jobs: jobs.open_jobs(shard) or (snapshot_id, shard) in jobs.jobs
        ):
            return
        order = self._knowledge.look(
            lambda view, _: first_order(snapshot_id, shard, view, now, allow_leader=False)
        )
        if order is not None:
            log.info("shard %d: snapshot %s is due; asking %s", shard, order.id, order.replica)
            self._control.append(order)

    def _retire(self, shard: int, snapshots: list[Manifest]) -> None:
        now = self._clock()
        reading = self._knowledge.look(
            lambda view, _: {
                each.status.snapshot
                for each in view.replicas.values()
                if each.status.snapshot is not None and not each.is_silent(now)
            }
        )
        for old in policy.surplus(snapshots, self._rules.keep, reading):
            self._store.delete(old)
            log.info("shard %d: deleted snapshot %s (offset %d)", shard, old.id, old.offset)

    def _trim(self, trimmer: Trimmer, shard: int, kept: list[Manifest]) -> None:
        """Only up to a snapshot that has just been read whole: there is no way back.

        The record at its offset stays: by it a journal that was made anew is noticed.
        """
        anchor = policy.trim_anchor(kept)
        if anchor is None or self._trimmed.get(shard) == anchor.id:
            return
        try:
            self._store.verify(anchor)
        except SnapshotUnusable as error:
            self._say_once(f"shard {shard} is not trimmed: {error}")
            return
        trimmer.trim(shard, anchor.offset)
        self._trimmed[shard] = anchor.id
        log.info("shard %d: journal trimmed before offset %d", shard, anchor.offset)
