"""Takes the status topic into the cluster view and the view into Redis."""

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
"""A Redis that was wiped is filled again after this long at most."""

RECENT_MS = 300_000
"""Of the time before the start, statuses older than this are skipped unread."""

FAILOVER_MARK = b'"failover"'


class StatusTopic(Protocol):
    """What the follower needs of a `TopicReader`."""

    @property
    def is_caught_up(self) -> bool:
        """All that was there at the start has been read."""

    def open(self) -> bool:
        """The topic is there."""

    def poll(self, timeout_s: float) -> list[Message]:
        """The next records."""


class Store(Protocol):
    """What the follower needs of a `RedisView`."""

    def sync(self, snapshot: Snapshot) -> None:
        """Make the store hold the snapshot."""


class Follower:
    """The topic is read from its beginning at each start.

    So the failovers of the whole retention come back after a wipe of Redis, with no position to
    keep; what is long past in statuses is skipped by a look at the bytes. Redis is written only
    once the end has been reached: nobody sees yesterday's leaders flicker by.

    `stepped_ms`, `synced_ms`: when it last looked at the topic, and last wrote to Redis.
    """

    def __init__(
        self,
        topic: StatusTopic,
        store: Store,
        now_ms: Callable[[], int],
        where: str,
        on_failover: Callable[[Failover], object] = lambda _: None,
    ) -> None:
        """`now_ms`: ms since the Unix epoch; `where` names the store in the log; `on_failover` is
        handed each that is told after the start."""
        self._on_failover = on_failover
        self._topic, self._store, self._now_ms = topic, store, now_ms
        self._view = ClusterView()
        self._started = now_ms()
        self._next_sync = 0
        self._was_caught_up = False
        self._duplicates: set[tuple[str, int]] = set()
        self._outage = Outage(where, log)
        self.stepped_ms = self._started
        self.synced_ms = 0

    @property
    def trouble(self) -> str:
        """Why Redis does not hold the present view, or "". Any thread may ask."""
        if not self._topic.is_caught_up:
            return "the status topic has not been read to its end yet"
        return self._outage.why

    def counts(self) -> tuple[int, int]:
        """Replicas and failovers in the view. Any thread may ask."""
        return len(self._view.replicas), len(self._view.failovers)

    def run(self, stop: Event) -> None:
        """Until `stop` is set. Raises `ShardCountMismatch`."""
        while not stop.is_set():
            self.step(POLL_S)

    def step(self, timeout_s: float) -> None:
        """Read some records; write when something notable has happened, or it is time."""
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
            log.info("another instance of the view has just written; looking again")
        except redis.RedisError as error:
            self._outage.begin(str(error))
        else:
            self.synced_ms = now
            self._outage.end()

    def _warn_of_duplicates(self, now: int) -> None:
        now_so = {key for key, each in self._view.replicas.items() if each.is_duplicate(now)}
        for name, shard in sorted(now_so - self._duplicates):
            log.warning(
                "two live processes call themselves replica %s (shard %d): give each its own "
                "POSTJOURNAL_REPLICA",
                name,
                shard,
            )
        for name, shard in sorted(self._duplicates - now_so):
            log.info("the name %s (shard %d) is used by one process again", name, shard)
        self._duplicates = now_so
