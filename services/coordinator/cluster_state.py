"""The state of the cluster and of the snapshot jobs, from the status and control topics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, RLock
from typing import TypeVar

from postjournal.adapters.kafka.client import TopicRecord
from postjournal.adapters.process.clock import steady_ms
from postjournal.cluster.arrivals import Arrivals
from postjournal.cluster.status import (
    ReplicaStatus,
    SnapshotOrder,
    SnapshotProgress,
    decode_control,
    decode_status,
)
from postjournal.cluster.view import ClusterView
from services.coordinator.clocks import ClockWatch
from services.coordinator.jobs import JobKey, JobTable
from services.coordinator.load_history import Curves, LoadHistory

T = TypeVar("T")


class ClusterState:
    """Cluster and jobs, for many threads. Kafka is the only place where it is stored.

    `version` increases with every record of the topics.
    """

    def __init__(self) -> None:
        self._lock = RLock()
        self._updated = Condition(self._lock)
        self._view, self._jobs = ClusterView(), JobTable()
        self._loads = LoadHistory()
        self._arrivals, self._shifted_ms = Arrivals(), 0
        self._clocks = ClockWatch()
        self.version = 0

    def read(self, function: Callable[[ClusterView, JobTable], T]) -> T:
        """Call `function` while no other thread changes its arguments; return its result."""
        with self._lock:
            return function(self._view, self._jobs)

    def curves(self, shard: int) -> Curves:
        """The load of the shard's leader in the last two minutes."""
        with self._lock:
            return self._loads.curves(shard)

    def wait_for_update(self, version: int, timeout_s: float) -> int:
        """Wait up to `timeout_s` seconds for another version; return the current one."""
        with self._updated:
            self._updated.wait_for(lambda: self.version != version, timeout_s)
            return self.version

    def on_statuses(self, records: list[TopicRecord], *, is_live: bool = False) -> None:
        """Apply records of the status topic; without any, remove what has expired.

        `is_live`: everything that the topic held at the start has been read, with these.
        """
        now = steady_ms()
        for record in records:
            self._on_status(record, now)
        if is_live:
            self._settle(now)
            self.forget_absent(now)

    def _settle(self, now: int) -> None:
        by_ms = self._arrivals.settle(now)
        if by_ms:
            with self._changing():
                self._shifted_ms = by_ms
                self._view.shift(by_ms)
                self._jobs.shift(by_ms)

    def _on_status(self, record: TopicRecord, now: int) -> None:
        status, seen = decode_status(record.value), self._arrivals.of(record.time_ms, now)
        if isinstance(status, ReplicaStatus) and self._arrivals.is_live:
            self._clocks.add(status.replica, status.time, time.time_ns() // 1_000_000)
        with self._changing():
            if isinstance(status, SnapshotProgress):
                self._jobs.on_progress(status, seen)
            elif status is not None:
                self._view.apply(status, seen)
                self._loads.add(status)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._updated:
            yield
            self.version += 1
            self._updated.notify_all()

    def on_controls(self, records: list[TopicRecord], *, is_live: bool = False) -> None:
        """Apply records of the control topic. `is_live`: as in `on_statuses`."""
        now = steady_ms()
        for record in records:
            order = decode_control(record.value)
            if isinstance(order, SnapshotOrder):
                is_now = is_live and self._arrivals.is_live
                self.on_order(order, now if is_now else record.time_ms + self._shifted_ms)

    def on_order(self, order: SnapshotOrder, seen: int) -> None:
        """Apply an order. `seen`: when it arrived.

        A handler that has appended an order applies it at once, with its own clock, so that the
        next request finds it; when the order is read from the topic it changes nothing.
        """
        with self._changing():
            self._jobs.on_order(order, seen)

    def forget_job(self, key: JobKey) -> None:
        """Remove a job; see `JobTable.forget`."""
        with self._changing():
            self._jobs.forget(key)

    def forget_lost(self, now: int) -> None:
        """Remove jobs whose end cannot be known; see `JobTable.forget_lost`."""
        with self._lock:
            self._jobs.forget_lost(now)

    def forget_absent(self, now: int) -> None:
        """Remove replicas that have been silent for ten minutes. `now`: ms since the epoch."""
        with self._lock:
            self._view.forget_absent(now)


def now_ms() -> int:
    """Milliseconds since the Unix epoch, by the clock of all arrivals."""
    return steady_ms()
