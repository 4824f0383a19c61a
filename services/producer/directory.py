"""Which replicas there are and who leads: from the status topic, in a thread."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from threading import Condition, Event, Thread
from typing import Protocol

from confluent_kafka import Message

from postjournal.cluster.states import NO_LEADER, leads, serves_reads
from postjournal.cluster.status import ReplicaStatus, decode_status
from postjournal.cluster.view import ClusterView, ReplicaView, ShardView
from postjournal.core.errors import ShardCountMismatch
from services.server import Halt

log = logging.getLogger(__name__)

LOOK_BACK = 200
"""Records of each shard read at the start: more than what some replicas say in five seconds."""

POLL_S = 0.2

STALE_S = 10.0
"""A replica whose lag lasts so long is not in sync: it is stuck, or reads up to a bound only."""


class StatusTopic(Protocol):
    """What the directory needs of a `TopicReader`."""

    @property
    def is_open(self) -> bool:
        """The topic is there."""

    @property
    def trouble(self) -> str:
        """Why nothing comes."""

    def open(self) -> bool:
        """Try to."""

    def poll(self, timeout_s: float) -> list[Message]:
        """The next records."""

    def close(self) -> None:
        """Done."""


class StatusDirectory:
    """See `ReplicaDirectory`. Safe to use from many threads."""

    def __init__(self, topic: StatusTopic, halt: Halt) -> None:
        """Starts its thread. `halt` is told of a configuration that cannot work."""
        self._topic, self._halt = topic, halt
        self._view = ClusterView()
        self._news = Condition()
        self._turn = 0
        self._closing = Event()
        self._thread = Thread(target=self._run, name="directory", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """See `ReplicaDirectory`."""
        if self._topic.is_open:
            return ""
        return self._topic.trouble or "the status topic is not followed yet"

    def shard(self, shard: int) -> ShardView | None:
        """See `ReplicaDirectory`. A leader that has been silent for long is none."""
        with self._news:
            view = self._view.shards.get(shard)
            if view is None or view.leader is None:
                return view
            leader = self._view.replicas.get((view.leader, shard))
            if leader is None or leader.is_silent(_now_ms()):
                return replace(view, leader=None, address=None, http=None, state=NO_LEADER)
            return view

    def leader_addresses(self, shard: int) -> list[str]:
        """See `ReplicaDirectory`."""
        view = self.shard(shard)
        return [view.http] if view is not None and view.http is not None else []

    def reader_addresses(self, shard: int) -> list[str]:
        """See `ReplicaDirectory`."""
        now = _now_ms()
        with self._news:
            found = [
                each.status
                for (_, of_shard), each in sorted(self._view.replicas.items())
                if of_shard == shard and _can_read(each, now)
            ]
            self._turn += 1
            turn = self._turn
        eager = [each.http for each in found if _reluctance(each) == 0]
        first = turn % len(eager) if eager else 0
        others = sorted((each for each in found if _reluctance(each)), key=_reluctance)
        return eager[first:] + eager[:first] + [each.http for each in others]

    def wait_for_news(self, timeout_s: float) -> None:
        """See `ReplicaDirectory`."""
        with self._news:
            self._news.wait(timeout_s)

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        self._thread.join(2.0)

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                if self._topic.open():
                    self._apply(self._topic.poll(POLL_S))
        except ShardCountMismatch as error:
            self._halt(error)
        finally:
            self._topic.close()

    def _apply(self, messages: list[Message]) -> None:
        if not messages:
            return
        with self._news:
            for message in messages:
                record = decode_status(message.value())
                if record is not None:
                    self._view.apply(record, message.timestamp()[1])
            self._view.forget_absent(_now_ms())
            self._news.notify_all()


def _can_read(view: ReplicaView, now: int) -> bool:
    return serves_reads(view.status.state) and not view.is_silent(now)


def _reluctance(status: ReplicaStatus) -> int:
    if status.lag_s > STALE_S:
        return 2
    return 1 if leads(status.state) else 0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
