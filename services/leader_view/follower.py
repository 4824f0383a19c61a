"""Folds the status topic into the cluster view and writes the view to Redis."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event
from typing import Protocol

import redis
from confluent_kafka import Message

from postjournal.adapters.outage import Outage
from postjournal.adapters.redis.cluster_view import Snapshot
from postjournal.cluster.status import Failover, decode_status
from postjournal.cluster.view import ClusterView
from services.leader_view.rendering import render

log = logging.getLogger(__name__)

POLL_S = 0.2
SYNC_EVERY_MS = 500
"""A wiped Redis is filled again after at most this long."""

RECENT_MS = 300_000
"""Statuses that were this old when the process started are skipped without decoding them."""

FAILOVER_MARK = b'"failover"'


class StatusTopic(Protocol):
    """The part of `TopicReader` that the follower uses."""

    @property
    def is_caught_up(self) -> bool:
        """Whether all records that existed at the start have been read."""

    def open(self) -> bool:
        """Whether the topic exists and is followed."""

    def poll(self, timeout_s: float) -> list[Message]:
        """The next records, at most after `timeout_s`."""


class Store(Protocol):
    """The part of `RedisView` that the follower uses."""

    def sync(self, snapshot: Snapshot) -> None:
        """Make the store equal to `snapshot`. Raises `redis.RedisError`."""


class Follower:
    """Reads the topic from its beginning at each start.

    That restores the failovers of the whole retention after a wipe of Redis, without a stored
    position; old statuses are skipped after a look at their bytes. Redis is first written when the
    end is reached, so that it never shows leaders of the past.

    `stepped_ms`, `synced_ms`: when the loop last ran, and when it last wrote to Redis.
    """

    def __init__(
        self,
        topic: StatusTopic,
        store: Store,
        now_ms: Callable[[], int],
        store_name: str,
        on_failover: Callable[[Failover], object] = lambda _: None,
    ) -> None:
        """`now_ms`: ms since the Unix epoch; `store_name`: for the log; `on_failover`: called with
        each failover that is reported after the start."""
        self._on_failover = on_failover
        self._topic, self._store, self._now_ms = topic, store, now_ms
        self._view = ClusterView()
        self._started = now_ms()
        self._next_sync = 0
        self._was_caught_up = False
        self._duplicates: set[tuple[str, int]] = set()
        self._outage = Outage(store_name, log)
        self.stepped_ms = self._started
        self.synced_ms = 0

    @property
    def trouble(self) -> str:
        """Why Redis does not hold the current view, or "". Thread-safe."""
        if not self._topic.is_caught_up:
            return "the status topic is not read to its end yet"
        return self._outage.why

    def counts(self) -> tuple[int, int]:
        """The numbers of replicas and failovers in the view. Thread-safe."""
        return len(self._view.replicas), len(self._view.failovers)

    def run(self, stop: Event) -> None:
        """Run until `stop` is set. Raises `ShardCountMismatch`."""
        while not stop.is_set():
            self.step(POLL_S)

    def step(self, timeout_s: float) -> None:
        """Read some records; write the view when it has changed, or SYNC_EVERY_MS have passed."""
        self.stepped_ms = self._now_ms()
        if not self._topic.open():
            return
        is_urgent = False
        for message in self._topic.poll(timeout_s):
            is_urgent |= self._apply(message)
        if not self._topic.is_caught_up:
            return
        self._note_caught_up()
        now = self._now_ms()
        if now >= self._next_sync or (is_urgent and not self._outage.active):
            self._sync(now)

    def _apply(self, message: Message) -> bool:
        value, (_, seen) = message.value() or b"", message.timestamp()
        if seen < self._started - RECENT_MS and FAILOVER_MARK not in value[:64]:
            return False
        record = decode_status(value)
        if isinstance(record, Failover) and seen >= self._started:
            self._on_failover(record)
        return record is not None and self._view.apply(record, seen)

    def _note_caught_up(self) -> None:
        if not self._was_caught_up:
            self._was_caught_up = True
            log.info(
                "caught up with the status topic: %d replicas, %d failovers",
                len(self._view.replicas),
                len(self._view.failovers),
            )

    def _sync(self, now: int) -> None:
        self._next_sync = now + SYNC_EVERY_MS
        self._view.forget_absent(now)
        self._warn_of_duplicates(now)
        try:
            self._store.sync(render(self._view, now))
        except redis.WatchError:
            log.info("another instance of the view has written at the same time; retrying")
        except redis.RedisError as error:
            self._outage.begin(str(error))
        else:
            self.synced_ms = now
            self._outage.end()

    def _warn_of_duplicates(self, now: int) -> None:
        replicas = self._view.replicas
        duplicates = {key for key, replica in replicas.items() if replica.is_duplicate(now)}
        for name, shard in sorted(duplicates - self._duplicates):
            log.warning(
                "two processes use the replica name %s (shard %d); set a unique "
                "POSTJOURNAL_REPLICA for each",
                name,
                shard,
            )
        for name, shard in sorted(self._duplicates - duplicates):
            log.info("replica name %s (shard %d) is used by one process again", name, shard)
        self._duplicates = duplicates
