"""One shard of a replica: the loop of its engine, its metrics and its status records."""

from __future__ import annotations

import contextlib
import logging
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from msgspec.structs import asdict

from postjournal.adapters.kafka.engine.shard_log import KafkaLog
from postjournal.adapters.process.clock import SystemClock
from postjournal.adapters.process.inbox import QueueInbox
from postjournal.adapters.process.thread_priority import ThreadPriority
from postjournal.adapters.process.wakeup import Wakeup
from postjournal.adapters.snapshots.manager import Stores
from postjournal.cluster.states import ReplicaState, SnapshotState, is_in_sync, leads
from postjournal.cluster.status import (
    CatchUp,
    Failover,
    ReplicaStatus,
    SnapshotProgress,
    StatusRecord,
)
from postjournal.cluster.topics import Topics
from postjournal.config.settings import Settings
from postjournal.core import messages as m
from postjournal.core.application import Application
from postjournal.core.errors import BrokersLost, ShardHalted
from postjournal.core.limits import Limits
from postjournal.core.liveness.impairment import Impairment
from postjournal.core.reader import Reader
from postjournal.core.replica import Replica
from postjournal.core.roles import Identity
from postjournal.core.sharding import ShardPlace
from postjournal.core.state.apply_guard import ApplyGuard
from postjournal.ports import Observation
from postjournal.runtime import Engine, Runtime, ShardPorts
from services.replica import metrics
from services.replica.load import RecentLoad
from services.replica.log_limits import ElectionMeter, LogLimit
from services.replica.progress import ProgressMeter
from services.replica.snapshots import bound_of, make_snapshots

log = logging.getLogger(__name__)

STATUS_EVERY_MS = 1_000

ROLE_REPORT_MS = 50
"""A new role is reported so much later: at a takeover, deciding comes first on all replicas."""


class Addresses(msgspec.Struct, frozen=True):
    """The addresses of this process, each as host:port."""

    http: str
    tripwire: str

    @classmethod
    def of(cls, settings: Settings, tripwire_port: int) -> Addresses:
        """`tripwire_port`: the one that was bound."""
        return cls(
            http=f"{settings.advertise}:{settings.http_port}",
            tripwire=f"{settings.advertise}:{tripwire_port}",
        )


class Parent(Protocol):
    """What an engine needs of its replica; see `services.replica.engine.Connection`."""

    inbox: QueueInbox
    wakeup: Wakeup
    last_end: str | None

    def begin(self, incarnation: str) -> None:
        """Return when the incarnation may claim."""

    def report(self, shard: int, record: bytes) -> None:
        """Pass a status record on."""

    def watch(self, address: str, incarnation: str, epoch: int) -> None:
        """See `ports.Tripwire`, as for the next two."""

    def unwatch(self) -> None: ...

    def poll(self) -> Sequence[m.Message]: ...


@dataclass(frozen=True)
class Shared:
    """What is the same for all shards; `stores`: None without snapshots."""

    settings: Settings
    topics: Topics
    application: Application[Any, Any, Any]
    addresses: Addresses
    stores: Stores | None


class ShardRunner:
    """Runs the engine of one shard, and reports what it observes.

    `status`: the latest status record.
    """

    def __init__(self, shared: Shared, shard: int, parent: Parent, guard: ApplyGuard) -> None:
        """Creates the clients. Raises `ConfigurationError`."""
        self.shard, self._parent, self._guard = shard, parent, guard
        self._inbox, wakeup = parent.inbox, parent.wakeup
        settings, topics, application = shared.settings, shared.topics, shared.application
        self._settings, self._addresses = settings, shared.addresses
        self._application = application
        self._label = str(shard)
        metrics.initialize(self._label)
        self._clock = SystemClock()
        self._log = KafkaLog(settings.kafka, topics, shard, wakeup)
        self._bound = bound_of(settings)
        self._snapshots = make_snapshots(
            settings, topics, application, shard, stores=shared.stores, wakeup=wakeup
        )
        self._progress = ProgressMeter(shard)
        self._impairment = Impairment()
        ports = ShardPorts(self._log, parent, self._inbox, self._snapshots, self._clock, self)
        self._runtime = Runtime(self._make_replica, self._new_incarnation, ports)
        self._state: str = ReplicaState.RESTORING
        self._error: str | None = None
        self._catch_up: CatchUp | None = None
        self._failed_commands, self._elections = LogLimit(), ElectionMeter()
        self._load = RecentLoad(self._clock.monotonic_ms())
        self._since_ms = self._caught_up_ms = self._clock.wall_ms()
        self._status_due_ms = 0
        self._unpublished: list[Failover] = []
        self.status = self._make_status(None)

    def _new_incarnation(self) -> str:
        incarnation = uuid.uuid4().hex
        self._parent.begin(incarnation)
        return incarnation

    def _make_replica(self, incarnation: str) -> Engine:
        place = ShardPlace(self.shard, self._settings.shards)
        name = self._settings.replica
        identity = Identity(name, incarnation, self._addresses.tripwire, place)
        limits = Limits(dedupe_window=self._settings.dedupe_window)
        if self._settings.reader:
            return Reader(identity, self._application, limits, self._bound, self._guard)
        return Replica(identity, self._application, limits, self._guard, self._impairment)

    # --- the loop ---------------------------------------------------------------------------

    def run(self) -> bool:
        """Run the engine until it is requested to stop; whether it stopped as requested.

        A halted shard waits for that request too, since no restart would help it. Whatever else
        is raised ends the process, and its parent starts another one.
        """
        priority = ThreadPriority()
        if not priority.is_allowed:
            log.info(
                "shard %d: may not raise its thread's priority (docs/operations.md)", self.shard
            )
        try:
            self._turn_until_stopped(priority)
        except BrokersLost as error:
            log.critical("shard %d: %s; the engine exits to be restarted", self.shard, error)
            return False
        except ShardHalted as error:
            self._runtime.resign()
            self._halt(error)
        self._inbox.close()
        self._report()
        if self._state == ReplicaState.HALTED:
            self._wait_for_stop()
        return True

    def _turn_until_stopped(self, priority: ThreadPriority) -> None:
        self._runtime.start()
        while not self._runtime.stopped:
            priority.switch(on=self._runtime.replica.is_behind)
            self._runtime.turn()
            now_ms = self._clock.monotonic_ms()
            if now_ms >= self._status_due_ms:
                self._status_due_ms = now_ms + STATUS_EVERY_MS
                self._report()
        self._log.close()

    def _wait_for_stop(self) -> None:
        with contextlib.suppress(BrokersLost):  # unread reports of its clients would pile up
            self._log.close()
        while not self._inbox.is_asked_to_stop:
            self._report()
            self._parent.wakeup.wait(STATUS_EVERY_MS / 1000)

    def _halt(self, error: ShardHalted) -> None:
        """With the traceback of what the application raised, if it did."""
        position, end = self._runtime.replica.position, self._log.known_end()
        behind = "" if end is None else f"; {max(end - position, 0)} follow it"
        self._error = f"{error} [last journal record read: offset {position - 1}{behind}]"
        log.critical("shard %d halted: %s", self.shard, self._error, exc_info=error.__cause__)
        self._state = ReplicaState.HALTED
        metrics.show_role(self._label, ReplicaState.HALTED)

    # --- the Observer port ------------------------------------------------------------------

    def observe(self, event: Observation) -> None:
        """Update the metrics, and log or publish what operators must know."""
        if type(event) is m.EntryStable:
            wall_ms = self._clock.wall_ms()
            metrics.count_entry(self._label, event, wall_ms)
            self._load.add(event, wall_ms)
        elif type(event) is m.RoleChanged:
            self._on_role(event)
        elif type(event) is m.TookOver:
            self._on_takeover(event)
        elif type(event) is m.CommandFailed:
            self._on_failed_command(event)
        elif type(event) is m.Impaired:
            self._on_impaired(event)
        elif type(event) is m.RecordVoid:
            self._on_void(event)
        elif type(event) is m.SnapshotProgressed:
            self._on_snapshot(event)

    def _on_role(self, event: m.RoleChanged) -> None:
        is_attempt = event.role is ReplicaState.CLAIMING or event.reason.startswith("claim")
        is_minor = is_attempt and event.role is not ReplicaState.LEADER
        level = logging.DEBUG if is_minor else logging.INFO
        has_failed = self._state == ReplicaState.LEADER and event.role is ReplicaState.STANDBY
        if event.role is ReplicaState.REBUILDING or has_failed:
            level = logging.WARNING
        log.log(
            level, "shard %d: %s (epoch %d, %s)", self.shard, event.role, event.epoch, event.reason
        )
        self._state = event.role
        metrics.show_role(self._label, event.role)
        if not is_minor:
            due_ms = self._clock.monotonic_ms() + ROLE_REPORT_MS
            self._status_due_ms = min(self._status_due_ms, due_ms)

    def _on_impaired(self, event: m.Impaired) -> None:
        metrics.IMPAIRMENTS.labels(self._label).inc()
        log.warning(
            "shard %d: %s, while the journal makes progress: leaving the leadership to another "
            "replica; this one will be the last to claim it",
            *(self.shard, event.reason),
        )

    def _on_failed_command(self, event: m.CommandFailed) -> None:
        unlogged = self._failed_commands.admit(self._clock.monotonic_ms())
        if unlogged is not None:
            log.error(
                "shard %d: the application raised at command %s (%s at offset %d), which is "
                "rejected%s",
                *(self.shard, event.id, event.topic, event.offset),
                f"; {unlogged} more were not logged" if unlogged else "",
                exc_info=event.error,
            )

    def _on_void(self, event: m.RecordVoid) -> None:
        metrics.VOID.labels(self._label, event.kind).inc()
        if event.alarm:
            metrics.ALARMS.labels(self._label).inc()
            log.error(
                "shard %d: the entry at offset %d is void only because of its running hash: "
                "a bug or a damaged journal; run `./postjournal verify`",
                self.shard,
                event.offset,
            )

    def _on_takeover(self, takeover: m.TookOver) -> None:
        metrics.count_failover(self._label, takeover, self._clock.wall_ms())
        failover = Failover(
            shard=self.shard,
            leader=self._settings.replica,
            time=self._clock.wall_ms(),
            total_ms=takeover.total_ms,
            **asdict(takeover),
        )
        self._unpublished.append(failover)

    def _on_snapshot(self, progress: m.SnapshotProgressed) -> None:
        metrics.count_snapshot(self._label, progress)
        if progress.state is SnapshotState.FAILED:
            log.warning("shard %d: snapshot %s failed: %s", self.shard, progress.id, progress.error)
        elif progress.state is SnapshotState.DONE:
            log.info(
                "shard %d: snapshot %s at offset %d (seq %d): %d bytes in %d ms (fork %.1f ms)",
                *(self.shard, progress.id, progress.offset, progress.seq),
                *(progress.size, progress.duration_ms, progress.fork_ms),
            )
        record = SnapshotProgress(
            shard=self.shard,
            replica=self._settings.replica,
            incarnation=self._runtime.replica.incarnation,
            time=self._clock.wall_ms(),
            **asdict(progress),
        )
        self._publish(record)

    # --- status records ---------------------------------------------------------------------

    def _report(self) -> None:
        is_closed = self._runtime.stopped or self._state == ReplicaState.HALTED
        known_end = None if is_closed else self._log.known_end()
        replica = self._runtime.replica
        lag = None if known_end is None else max(known_end - replica.position, 0)
        if replica.journal.epoch != self.status.epoch:
            self._since_ms = self._clock.wall_ms()
        if lag == 0:
            self._caught_up_ms = self._clock.wall_ms()
        now_ms = self._clock.monotonic_ms()
        if is_in_sync(self._state):
            self._warn_of_elections(replica.journal.epoch, now_ms)
        self._catch_up = self._progress.measure(replica, self._snapshots.restoring, now_ms)
        self.status = self._make_status(lag)
        for failover in self._unpublished:
            log.info("%s", failover.summary)
            self._publish(failover)
        self._unpublished.clear()
        self._publish(self.status)
        self._update_gauges(self.status)

    def _warn_of_elections(self, epoch: int, now_ms: int) -> None:
        count = self._elections.add(epoch, now_ms)
        if count is not None:
            claim = self._runtime.replica.journal.claim
            log.warning(
                "shard %d: %d elections within a minute; the latest leader is %s (epoch %d); the "
                "replicas' logs have the cause of each",
                *(self.shard, count, claim.replica if claim else None, epoch),
            )

    def _make_status(self, lag: int | None) -> ReplicaStatus:
        replica, wall_ms = self._runtime.replica, self._clock.wall_ms()
        journal, restoring = replica.journal, self._snapshots.restoring
        claim = None if journal.resigned else journal.claim
        return ReplicaStatus(
            replica=self._settings.replica,
            incarnation=replica.incarnation,
            pid=os.getpid(),
            shard=self.shard,
            state=self._state,
            epoch=journal.epoch,
            leader=claim.replica if claim else None,
            leader_address=claim.address if claim else None,
            since=self._since_ms,
            seq=journal.next_seq,
            digest=journal.digest,
            lag=lag,
            lag_s=max(wall_ms - self._caught_up_ms, 0) / 1000,
            http=self._addresses.http,
            tripwire=self._addresses.tripwire,
            time=wall_ms,
            error=self._error or self._log.unavailable_reason or self._impaired_reason,
            last_end=self._parent.last_end,
            snapshot=restoring.snapshot_id if restoring else None,
            catch_up=self._catch_up,
            load=self._load.latest(self._clock.monotonic_ms(), leads=leads(self._state)),
        )

    @property
    def _impaired_reason(self) -> str | None:
        impairment = self._impairment
        is_present = impairment.is_present(self._clock.monotonic_ms())
        return impairment.reason if is_present else None

    def _publish(self, record: StatusRecord) -> None:
        self._parent.report(self.shard, msgspec.json.encode(record))

    def _update_gauges(self, status: ReplicaStatus) -> None:
        label, replica = self._label, self._runtime.replica
        metrics.EPOCH.labels(label).set(status.epoch)
        metrics.SEQUENCE.labels(label).set(status.seq)
        metrics.LAG_SECONDS.labels(label).set(status.lag_s)
        metrics.show_catch_up(label, status.catch_up)
        if status.lag is not None:
            metrics.LAG_RECORDS.labels(label).set(status.lag)
        in_flight = len(replica.leadership.inflight) if replica.leadership else 0
        metrics.IN_FLIGHT.labels(label).set(in_flight)
        metrics.POSITION.labels(label).set(replica.position)
        for sink, outbox in replica.machine.outboxes.items():
            metrics.SINK_LAG.labels(label, sink).set(len(outbox))
            metrics.SINK_SEQUENCE.labels(label, sink).set(outbox.next_seq)
