"""The coordinator's background work: snapshot retries, the schedule, retention, trimming."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Thread

from postjournal.adapters.process.pulse import Pulse
from postjournal.adapters.snapshots.catalogue import SnapshotStore
from postjournal.cluster.states import SnapshotState
from postjournal.cluster.status import SnapshotProgress
from postjournal.core.errors import SnapshotUnusable, StoreUnavailable, StoreUnusable
from postjournal.core.snapshot.manifest import Manifest
from services.coordinator import policy
from services.coordinator.cluster_state import ClusterState, now_ms
from services.coordinator.jobs import GiveUp, TryAgain, first_order, next_step
from services.coordinator.metrics import Metrics
from services.coordinator.policy import Schedule
from services.coordinator.ports import UNAVAILABLE, Appender, Component, Trimmer

log = logging.getLogger(__name__)

INTERVAL_S = 0.5
"""Between two checks of the jobs."""

RETENTION_INTERVAL_MS = 10_000
"""Between two runs of schedule, retention and trimming; the end of a snapshot starts another."""

LONGEST_S = 3_600.0
"""For one round: before the journal is trimmed, a whole snapshot is read."""

LEFTOVER_MS = 3_600_000
"""An object without a manifest that has not changed for an hour is not an upload in progress."""

COORDINATOR = "coordinator"
"""Replica and incarnation in the status records that the coordinator writes."""


@dataclass(frozen=True)
class Rules:
    """When snapshots are due, how many are retained per shard, and how the journal is trimmed.

    `trimmer` None: the journal is not trimmed.
    """

    schedule: Schedule
    keep: int
    trimmer: Trimmer | None


@dataclass(frozen=True)
class MaintenanceDeps:
    """What the maintenance reads and writes. `control`, `status`: append to these topics."""

    cluster_state: ClusterState
    follower: Component
    store: SnapshotStore
    control: Appender
    status: Appender
    shards: int


class Maintenance:
    """The background work, in a thread of its own.

    Every action is idempotent, so a restart may repeat it and two coordinators may run at once.
    """

    def __init__(
        self,
        deps: MaintenanceDeps,
        rules: Rules,
        metrics: Metrics,
        clock: Callable[[], int] = now_ms,
        wall_clock: Callable[[], int] | None = None,
    ) -> None:
        """Does nothing before `start`.

        `clock`: of the arrivals of records; `wall_clock`: ms since the Unix epoch, of the ages of
        snapshots and objects; None: `clock`.
        """
        self._deps, self._rules, self._metrics, self._clock = deps, rules, metrics, clock
        self._wall_clock = wall_clock or clock
        self._cluster_state, self._store = deps.cluster_state, deps.store
        self._started_ms = self._wall_clock()
        self._retention_due_ms = 0
        self._ended_count = 0  # of the jobs, at the last retention
        self._trimmed: dict[int, str] = {}  # shard → id of the anchor it was trimmed to
        self._logged: dict[str, set[str]] = {}  # activity → errors since its last success
        self.unavailable_reason: str | None = "the snapshot store is not checked yet"
        self._closing = Event()
        self._thread = Thread(target=self._run, name="maintenance", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End the thread, and wait up to 2 s for the request to the store that it may be in."""
        self._closing.set()
        self._thread.join(2.0)

    def _run(self) -> None:
        with Pulse("maintenance", LONGEST_S) as pulse:
            while not self._closing.wait(INTERVAL_S):
                try:
                    self.run_once()
                except Exception:
                    log.exception("maintenance failed; next attempt in %.1f s", INTERVAL_S)
                pulse.beat()

    def run_once(self) -> None:
        """Advance all jobs and, when it is due, apply schedule, retention and trimming."""
        if self.unavailable_reason:
            self._check_store()
        if self._deps.follower.unavailable_reason:
            return
        self._try("snapshots", self._advance_jobs)
        if not self.unavailable_reason and self._is_retention_due():
            self._try("retention", self._apply_all_retention)

    def _try(self, activity: str, act: Callable[[], None]) -> None:
        """Log each error once until the activity succeeds again; it is tried again later."""
        try:
            act()
        except UNAVAILABLE as error:
            self._log_once(activity, str(error))
        else:
            self._logged.pop(activity, None)

    def _apply_all_retention(self) -> None:
        for shard in range(self._deps.shards):
            self._apply_retention(shard)

    def _is_retention_due(self) -> bool:
        ended_count = self._cluster_state.read(lambda _, table: table.ended_count)
        if self._clock() < self._retention_due_ms and ended_count == self._ended_count:
            return False
        self._ended_count = ended_count
        self._retention_due_ms = self._clock() + RETENTION_INTERVAL_MS
        return True

    def _log_once(self, activity: str, error: str) -> None:
        logged = self._logged.setdefault(activity, set())
        if error not in logged:
            logged.add(error)
            log.error("%s: %s; retrying", activity, error)

    def _check_store(self) -> None:
        try:
            self._store.check()
        except (StoreUnusable, StoreUnavailable) as error:
            self.unavailable_reason = str(error)
            self._metrics.store_up.set(0)
            self._log_once("snapshot store", str(error))
        else:
            self._logged.pop("snapshot store", None)
            self.unavailable_reason = None
            self._metrics.store_up.set(1)
            log.info("snapshot store %s is available", self._store.url)

    # --- snapshots in progress --------------------------------------------------------------

    def _advance_jobs(self) -> None:
        now = self._clock()
        self._cluster_state.forget_lost(now)
        steps = self._cluster_state.read(
            lambda view, table: [next_step(job, view, now) for job in table.open_jobs()]
        )
        for step in steps:
            if isinstance(step, TryAgain):
                self._try_again(step)
            elif isinstance(step, GiveUp):
                self._give_up(step)

    def _try_again(self, step: TryAgain) -> None:
        """Append the next order, unless the snapshot is in the store.

        Then the record with its state `done` was lost or has not been read yet.
        """
        order = step.order
        stored = self._store.catalogue(order.shard).snapshots
        if any(snapshot.id == order.id for snapshot in stored):
            log.info("shard %d: snapshot %s is in the store already", order.shard, order.id)
            self._cluster_state.forget_job((order.id, order.shard))
            return
        log.warning(
            "shard %d: snapshot %s: %s; ordering attempt %d from %s",
            *(order.shard, order.id, step.reason, order.attempt, order.replica),
        )
        self._metrics.attempts_failed.labels(str(order.shard)).inc()
        self._deps.control.append(order)

    def _give_up(self, step: GiveUp) -> None:
        job = step.job
        log.error("shard %d: giving up snapshot %s: %s", job.shard, job.id, step.reason)
        self._metrics.failed.labels(str(job.shard)).inc()
        self._deps.status.append(
            SnapshotProgress(
                id=job.id,
                shard=job.shard,
                replica=COORDINATOR,
                incarnation=COORDINATOR,
                attempt=job.latest.order.attempt,
                state=SnapshotState.GIVEN_UP,
                error=step.reason,
                time=self._clock(),
            )
        )

    # --- schedule, retention, trimming ------------------------------------------------------

    def _apply_retention(self, shard: int) -> None:
        snapshots = self._store.catalogue(shard).snapshots
        self._metrics.set_snapshots(shard, snapshots, self._wall_clock())
        self._order_if_due(shard, snapshots[0] if snapshots else None)
        self._delete_surplus(shard, snapshots)
        for name in self._store.clean(shard, self._wall_clock() - LEFTOVER_MS):
            log.info("shard %d: deleted the leftover of an interrupted snapshot: %s", shard, name)
        if self._rules.trimmer is not None:
            self._trim(self._rules.trimmer, shard, snapshots[: self._rules.keep])

    def _order_if_due(self, shard: int, newest: Manifest | None) -> None:
        now, wall_ms = self._clock(), self._wall_clock()
        known = self._cluster_state.read(lambda view, _: view.shards.get(shard))
        seq = known.seq if known is not None else 0
        snapshot_id = self._rules.schedule.due(newest, seq, wall_ms, self._started_ms)
        if snapshot_id is None or self._cluster_state.read(
            lambda _, table: table.open_jobs(shard) or (snapshot_id, shard) in table.jobs
        ):
            return
        order = self._cluster_state.read(
            lambda view, _: first_order(snapshot_id, shard, view, now, allow_leader=False)
        )
        if order is not None:
            log.info("shard %d: snapshot %s is due from %s", shard, order.id, order.replica)
            self._deps.control.append(order)

    def _delete_surplus(self, shard: int, snapshots: list[Manifest]) -> None:
        now = self._clock()
        in_use = self._cluster_state.read(
            lambda view, _: {
                replica.status.snapshot
                for replica in view.replicas.values()
                if replica.status.snapshot is not None and not replica.is_silent(now)
            }
        )
        for snapshot in policy.surplus(snapshots, self._rules.keep, in_use):
            self._store.delete(snapshot)
            log.info(
                "shard %d: deleted snapshot %s (offset %d)", shard, snapshot.id, snapshot.offset
            )

    def _trim(self, trimmer: Trimmer, shard: int, retained: list[Manifest]) -> None:
        """Trim up to the anchor, after reading the anchor whole, because a trim is irreversible.

        The record at the anchor's offset stays: replicas compare it with the snapshot and so
        detect a journal that was recreated.
        """
        anchor = policy.trim_anchor(retained)
        if anchor is None or self._trimmed.get(shard) == anchor.id:
            return
        try:
            self._store.verify(anchor)
        except SnapshotUnusable as error:
            self._log_once("trimming", f"shard {shard}: {error}")
            return
        trimmer.trim(shard, anchor.offset)
        self._trimmed[shard] = anchor.id
        self._logged.pop("trimming", None)
        log.info("shard %d: trimmed the journal before offset %d", shard, anchor.offset)
