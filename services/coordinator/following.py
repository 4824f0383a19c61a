"""The state of the cluster and of the jobs, from the status and control topics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, RLock
from typing import TypeVar

from postjournal.adapters.kafka.client import TopicRecord
from postjournal.adapters.kafka.follower import FollowedTopic, Follower
from postjournal.cluster.status import (
    SnapshotOrder,
    SnapshotProgress,
    decode_control,
    decode_status,
)
from postjournal.cluster.view import ClusterView
from services.coordinator.history import Curves, History
from services.coordinator.jobs import JobBook, Key
from services.server import OnFatal

T = TypeVar("T")

LOOK_BACK = 10_000
"""Records per shard read at the start: more than replicas publish while a snapshot is taken."""


class ClusterState:
    """Cluster and jobs, for many threads. Kafka is the only place where it is stored."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._updated = Condition(self._lock)
        self._view, self._jobs = ClusterView(), JobBook()
        self._history = History()
        self.version = 0

    def look(self, at: Callable[[ClusterView, JobBook], T]) -> T:
        """The result of `at`, which sees a state that no thread changes meanwhile."""
        with self._lock:
            return at(self._view, self._jobs)

    def curves(self, shard: int) -> Curves:
        """The shard's last two minutes."""
        with self._lock:
            return self._history.curves(shard)

    def wait_for_update(self, version: int, timeout_s: float) -> int:
        """Wait up to `timeout_s` seconds for a version other than `version`; return the present."""
        with self._updated:
            self._updated.wait_for(lambda: self.version != version, timeout_s)
            return self.version

    def on_statuses(self, records: list[TopicRecord]) -> None:
        """Apply records of the status topic; [] lets time pass."""
        for record in records:
            self._on_status(record)
        self.forget_absent(now_ms())

    def _on_status(self, record: TopicRecord) -> None:
        status, seen = decode_status(record.value), record.time_ms
        with self._changing():
            if isinstance(status, SnapshotProgress):
                self._jobs.on_progress(status, seen)
            elif status is not None:
                self._view.apply(status, seen)
                self._history.take(status)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._updated:
            yield
            self.version += 1
            self._updated.notify_all()

    def on_own_order(self, order: SnapshotOrder, seen: int) -> None:
        """Apply an order that this process has just sent, before it is read from the topic."""
        with self._changing():
            self._jobs.on_order(order, seen)

    def forget_job(self, key: Key) -> None:
        """See `JobBook.forget`."""
        with self._changing():
            self._jobs.forget(key)

    def forget_lost(self, now: int) -> None:
        """See `JobBook.forget_lost`."""
        with self._lock:
            self._jobs.forget_lost(now)

    def on_controls(self, records: list[TopicRecord]) -> None:
        """Apply records of the control topic."""
        for record in records:
            order = decode_control(record.value)
            if isinstance(order, SnapshotOrder):
                with self._changing():
                    self._jobs.on_order(order, record.time_ms)

    def forget_absent(self, now: int) -> None:
        """Remove replicas that have been silent for long. `now`: ms since the Unix epoch."""
        with self._lock:
            self._view.forget_absent(now)


class ClusterFollower:
    """Feeds a `ClusterState` from the status and control topics, in a thread for each."""

    def __init__(
        self,
        cluster_state: ClusterState,
        status: FollowedTopic,
        control: FollowedTopic,
        on_fatal: OnFatal,
    ) -> None:
        """Starts the threads, which call `on_fatal` with a configuration error."""
        self._followers = (
            Follower("status", status, cluster_state.on_statuses, needs_history=True),
            Follower("control", control, cluster_state.on_controls, needs_history=True),
        )
        for follower in self._followers:
            follower.start(on_fatal)

    @property
    def unavailable_reason(self) -> str | None:
        """Why the cluster's state is not complete; None when it is."""
        reasons = (follower.unavailable_reason for follower in self._followers)
        return next((reason for reason in reasons if reason is not None), None)

    def close(self) -> None:
        """End the threads."""
        for follower in self._followers:
            follower.stop()
        for follower in self._followers:
            follower.close()


def now_ms() -> int:
    """Milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000
