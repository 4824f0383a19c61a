"""What the coordinator knows: the cluster and the jobs, out of the status and control topics."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, Event, RLock, Thread
from typing import Protocol, TypeVar

from confluent_kafka import Message

from postjournal.cluster.status import (
    SnapshotOrder,
    SnapshotProgress,
    decode_control,
    decode_status,
)
from postjournal.cluster.view import ClusterView
from postjournal.core.errors import ShardCountMismatch
from services.coordinator.history import Curves, History
from services.coordinator.jobs import JobBook, Key
from services.server import Halt

log = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_BACK = 10_000
"""Records of each shard read at the start: more than replicas say while a snapshot is taken."""

POLL_S = 0.2


class Topic(Protocol):
    """What is needed of a `TopicReader`."""

    @property
    def is_caught_up(self) -> bool:
        """All that was there at the start has been read."""

    @property
    def trouble(self) -> str:
        """Why nothing comes."""

    def open(self) -> bool:
        """Try to."""

    def poll(self, timeout_s: float) -> list[Message]:
        """The next records."""

    def close(self) -> None:
        """Done."""


class ClusterState:
    """Cluster and jobs, for many threads. Nothing of it is anywhere but in Kafka."""

    def __init__(self) -> None:
        """Nothing is known."""
        self._lock = RLock()
        self._news = Condition(self._lock)
        self._view, self._jobs = ClusterView(), JobBook()
        self._history = History()
        self.version = 0

    def look(self, at: Callable[[ClusterView, JobBook], T]) -> T:
        """What `at` makes of it, while nobody changes it."""
        with self._lock:
            return at(self._view, self._jobs)

    def curves(self, shard: int) -> Curves:
        """The last two minutes."""
        with self._lock:
            return self._history.curves(shard)

    def wait_for_news(self, version: int, timeout_s: float) -> int:
        """Until there is something newer than `version`, or the time is up; the version then."""
        with self._news:
            self._news.wait_for(lambda: self.version != version, timeout_s)
            return self.version

    def on_status(self, message: Message) -> None:
        """A record of the status topic."""
        record, seen = decode_status(message.value()), message.timestamp()[1]
        with self._changing():
            if isinstance(record, SnapshotProgress):
                self._jobs.on_progress(record, seen)
            elif record is not None:
                self._view.apply(record, seen)
                self._history.take(record)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._news:
            yield
            self.version += 1
            self._news.notify_all()

    def on_own_order(self, order: SnapshotOrder, seen: int) -> None:
        """One that this process has just sent: it need not wait to read it."""
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

    def on_control(self, message: Message) -> None:
        """A record of the control topic."""
        record = decode_control(message.value())
        if isinstance(record, SnapshotOrder):
            with self._changing():
                self._jobs.on_order(record, message.timestamp()[1])

    def forget_absent(self, now: int) -> None:
        """Leave out replicas that are long gone."""
        with self._lock:
            self._view.forget_absent(now)


class Follower:
    """Feeds a `ClusterState` in threads, one for each topic."""

    def __init__(
        self, cluster_state: ClusterState, status: Topic, control: Topic, halt: Halt
    ) -> None:
        """Starts. `halt` is told of a configuration that cannot work."""
        self._halt = halt
        self._topics = {"status": status, "control": control}
        self._closing = Event()
        self._threads = [
            Thread(target=self._run, args=(topic, take), name=f"follow-{name}", daemon=True)
            for name, topic, take in (
                ("status", status, cluster_state.on_status),
                ("control", control, cluster_state.on_control),
            )
        ]
        self._knowledge = cluster_state
        for thread in self._threads:
            thread.start()

    @property
    def trouble(self) -> str:
        """Why not all is known; "" when it is."""
        for name, topic in self._topics.items():
            if not topic.is_caught_up:
                return topic.trouble or f"the {name} topic is not read yet"
        return ""

    def close(self) -> None:
        """End the threads."""
        self._closing.set()
        for thread in self._threads:
            thread.join(2.0)

    def _run(self, topic: Topic, take: Callable[[Message], None]) -> None:
        try:
            while not self._closing.is_set():
                if topic.open():
                    for message in topic.poll(POLL_S):
                        take(message)
                    self._knowledge.forget_absent(now_ms())
        except ShardCountMismatch as error:
            self._halt(error)
        finally:
            topic.close()


def now_ms() -> int:
    """ms since the Unix epoch."""
    return time.time_ns() // 1_000_000
