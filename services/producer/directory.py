"""The `ReplicaDirectory` port: a thread follows the replicas' status records."""

from __future__ import annotations

from dataclasses import replace
from threading import Condition

from postjournal.adapters.kafka.client import TopicRecord
from postjournal.adapters.kafka.follower import FollowedTopic, Follower
from postjournal.adapters.process.clock import steady_ms
from postjournal.cluster.arrivals import Arrivals
from postjournal.cluster.states import NO_LEADER, leads, serves_reads
from postjournal.cluster.status import ReplicaStatus, decode_status
from postjournal.cluster.view import ClusterView, ReplicaView, ShardView
from services.server import OnFatal

LOOK_BACK = 200
"""Records per shard that are read at the start: more than some replicas write in five seconds."""

STALE_S = 10.0
"""A replica that has lagged for longer is stuck, or a reader that stops at a bound."""


class StatusDirectory:
    """The `ReplicaDirectory` port. Safe to use from many threads."""

    def __init__(self, topic: FollowedTopic, on_fatal: OnFatal) -> None:
        """Starts its thread, which calls `on_fatal` with a configuration error."""
        self._view, self._arrivals = ClusterView(), Arrivals()
        self._topic = topic
        self._updated = Condition()
        self._turn = 0
        self._follower = Follower("status", topic, self._apply, needs_history=False)
        self._follower.start(on_fatal)

    @property
    def unavailable_reason(self) -> str | None:
        return self._follower.unavailable_reason

    def shard(self, shard: int) -> ShardView | None:
        """As the port; a leader without a status for more than five seconds does not count."""
        with self._updated:
            view = self._view.shards.get(shard)
            if view is None or view.leader is None:
                return view
            leader = self._view.replicas.get((view.leader, shard))
            if leader is None or leader.is_silent(steady_ms()):
                return replace(view, leader=None, address=None, http=None, state=NO_LEADER)
            return view

    def leader_addresses(self, shard: int) -> list[str]:
        view = self.shard(shard)
        return [view.http] if view is not None and view.http is not None else []

    def reader_addresses(self, shard: int) -> list[str]:
        now = steady_ms()
        with self._updated:
            found = [
                replica.status
                for (_, of_shard), replica in sorted(self._view.replicas.items())
                if of_shard == shard and _is_readable(replica, now)
            ]
            self._turn += 1
            turn = self._turn
        standbys = [status.http for status in found if _rank(status) == 0]
        first = turn % len(standbys) if standbys else 0
        others = sorted((status for status in found if _rank(status)), key=_rank)
        return standbys[first:] + standbys[:first] + [status.http for status in others]

    def error(self, shard: int) -> str | None:
        now = steady_ms()
        with self._updated:
            errors = [
                f"{replica.status.replica}: {replica.status.error}"
                for (_, of_shard), replica in sorted(self._view.replicas.items())
                if of_shard == shard and replica.status.error and not replica.is_silent(now)
            ]
        return "; ".join(errors) or None

    def wait_for_update(self, timeout_s: float) -> None:
        with self._updated:
            self._updated.wait(timeout_s)

    def close(self) -> None:
        self._follower.close()

    def _apply(self, records: list[TopicRecord]) -> None:
        now = steady_ms()
        with self._updated:
            for record in records:
                status = decode_status(record.value)
                if status is not None:
                    self._view.apply(status, self._arrivals.of(record.time_ms, now))
            if self._topic.is_caught_up:
                self._view.shift(self._arrivals.settle(now))
                self._view.forget_absent(now)
            if records:
                self._updated.notify_all()


def _is_readable(view: ReplicaView, now: int) -> bool:
    return serves_reads(view.status.state) and not view.is_silent(now)


def _rank(status: ReplicaStatus) -> int:
    """The order in which replicas are queried: 0 first."""
    if status.lag_s > STALE_S:
        return 2
    return 1 if leads(status.state) else 0
