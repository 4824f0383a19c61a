"""Keeps the cluster view in Redis up to date with the status topic."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import redis

from postjournal.adapters.kafka.client import TopicRecord
from postjournal.adapters.outage import Outage
from postjournal.adapters.redis.cluster_view import ViewContents
from postjournal.cluster.arrivals import Arrivals
from postjournal.cluster.status import Failover, decode_status
from postjournal.cluster.view import ClusterView
from services.leader_view.rendering import render

log = logging.getLogger(__name__)

SYNC_EVERY_MS = 500
"""A wiped Redis is filled again within this time."""

RECENT_MS = 300_000
"""Statuses that are older than this at the start are skipped without decoding them."""

FAILOVER_MARK = b'"failover"'


class CaughtUp(Protocol):
    """What the updater needs of a `TopicReader`."""

    @property
    def is_caught_up(self) -> bool:
        """Every record that the topic held when it was opened has been returned."""


class Store(Protocol):
    """What the updater needs of a `RedisView`."""

    def sync(self, contents: ViewContents) -> None:
        """Make the store hold `contents`. Raises `redis.RedisError`."""


class ViewUpdater:
    """Applies the status topic to the cluster view, and writes the view to Redis.

    A `Follower` reads the topic from its beginning at each start, so the failovers of the whole
    retention are written again after Redis was wiped, without a stored position; old statuses are
    skipped by their bytes. Redis is not written before the end has been reached, so that no reader
    of Redis sees past leaders.

    `synced_ms`: when Redis was written last, ms since the Unix epoch; 0: not yet.
    """

    def __init__(
        self,
        topic: CaughtUp,
        store: Store,
        now_ms: Callable[[], int],
        address: str,
        on_failover: Callable[[Failover], object] = lambda _: None,
    ) -> None:
        """`now_ms`: the clock, see `steady_ms`; `address`: the store's name in the log;
        `on_failover` is called with each failover that is published after the start."""
        self._on_failover = on_failover
        self._topic, self._store, self._now_ms = topic, store, now_ms
        self._view, self._arrivals = ClusterView(), Arrivals()
        self._started = now_ms()
        self._next_sync = 0
        self._was_caught_up = False
        self._duplicates: set[tuple[str, int]] = set()
        self._outage = Outage(address, log)
        self.synced_ms = 0

    @property
    def unavailable_reason(self) -> str | None:
        """Why Redis is not up to date; None when it is. Any thread may ask."""
        if not self._topic.is_caught_up:
            return "the status topic has not been read to its end yet"
        return self._outage.reason

    def counts(self) -> tuple[int, int]:
        """The numbers of replicas and failovers in the view. Any thread may ask."""
        return len(self._view.replicas), len(self._view.failovers)

    def apply(self, records: list[TopicRecord]) -> None:
        """Apply records, if any; write the view after an important change and every 500 ms."""
        is_urgent = False
        now = self._now_ms()
        for record in records:
            is_urgent |= self._apply(record, now)
        if not self._topic.is_caught_up:
            return
        self._view.shift(self._arrivals.settle(now))
        self._note_caught_up()
        if now >= self._next_sync or (is_urgent and not self._outage.is_active):
            self._sync(now)

    def _apply(self, record: TopicRecord, now: int) -> bool:
        value, stamp = record.value, record.time_ms
        is_old = not self._was_caught_up and stamp < self._started - RECENT_MS
        if is_old and FAILOVER_MARK not in value[:64]:
            return False
        status = decode_status(value)
        is_new = self._was_caught_up or stamp >= self._started
        if isinstance(status, Failover) and is_new:
            self._on_failover(status)
        return status is not None and self._view.apply(status, self._arrivals.of(stamp, now))

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
            log.info("another instance of the view has written to Redis; retrying")
        except redis.RedisError as error:
            self._outage.start(str(error))
        else:
            self.synced_ms = now
            self._outage.end()

    def _warn_of_duplicates(self, now: int) -> None:
        duplicates = {
            key for key, replica in self._view.replicas.items() if replica.is_duplicate(now)
        }
        for name, shard in sorted(duplicates - self._duplicates):
            log.warning(
                "two running processes have the replica name %s (shard %d): set a unique "
                "POSTJOURNAL_REPLICA for each",
                name,
                shard,
            )
        for name, shard in sorted(self._duplicates - duplicates):
            log.info("the replica name %s (shard %d) is unique again", name, shard)
        self._duplicates = duplicates
