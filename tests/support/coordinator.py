"""A coordinator over a real store in a directory, with the topics in memory."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from flask.testing import FlaskClient

from postjournal.adapters.kafka.client import TopicRecord
from postjournal.adapters.snapshots.catalogue import SnapshotStore
from postjournal.adapters.snapshots.object_store import ObjectStore
from postjournal.cluster.status import (
    ControlRecord,
    ReplicaStatus,
    SnapshotOrder,
    SnapshotProgress,
    StatusRecord,
)
from postjournal.config.settings import StoreSettings
from postjournal.core.errors import JournalUnavailable
from postjournal.core.snapshot import manifest as manifests
from postjournal.core.snapshot.manifest import Manifest
from services.coordinator.app import make_app
from services.coordinator.catalogue import Snapshots
from services.coordinator.cluster_state import Coordinator
from services.coordinator.following import ClusterState
from services.coordinator.maintenance import Maintenance, MaintenanceDeps, Rules
from services.coordinator.metrics import Metrics
from services.coordinator.page.routes import LivePage
from services.coordinator.policy import Schedule
from tests.support.openapi import client_of


def deliver(cluster_state: ClusterState, record: ControlRecord | StatusRecord, seen: int) -> None:
    """As the record's topic does. `seen`: Kafka's timestamp, ms since the Unix epoch."""
    delivered = TopicRecord(record.shard, 0, None, msgspec.json.encode(record), seen)
    is_control = isinstance(record, SnapshotOrder)
    apply = cluster_state.on_controls if is_control else cluster_state.on_statuses
    apply([delivered])


@dataclass
class Topic:
    """What is appended is known to all coordinators at once."""

    knows: list[ClusterState]
    seen: int = 0
    records: list[Any] = field(default_factory=list)
    is_away: bool = False

    def append(self, record: ControlRecord | StatusRecord) -> None:
        if self.is_away:
            raise JournalUnavailable("Kafka does not answer")
        self.records.append(record)
        seen = self.seen or time.time_ns() // 1_000_000
        for cluster_state in self.knows:
            deliver(cluster_state, record, seen)


@dataclass
class FakePart:
    unavailable_reason: str | None = None


@dataclass
class Trims:
    """What was trimmed."""

    done: list[tuple[int, int]] = field(default_factory=list)

    def trim(self, shard: int, before: int) -> None:
        self.done.append((shard, before))


class World:
    """One coordinator; `another()` reads the same topics and store."""

    def __init__(self, folder: Path, shards: int = 1, **rules: Any) -> None:
        self.folder, self.shards = folder, shards
        self.store = self._make_store()
        self.cluster_state = ClusterState()
        self.control, self.status = Topic([self.cluster_state]), Topic([self.cluster_state])
        self.follower = FakePart()
        self.metrics = Metrics()
        self.trims = Trims()
        self.now: int | None = None
        self.rules = Rules(
            Schedule(rules.get("minutes", 0), rules.get("commands", 0)),
            rules.get("keep", 10),
            self.trims if rules.get("trim") else None,
        )
        self.maintenance = self._make_keeper(self.cluster_state, self.store)
        self.allow_crash = False

    def _make_store(self) -> SnapshotStore:
        return SnapshotStore(ObjectStore(StoreSettings(f"file://{self.folder}", None, None)), "t")

    def _make_keeper(self, cluster_state: ClusterState, store: SnapshotStore) -> Maintenance:
        around = MaintenanceDeps(
            cluster_state, self.follower, store, self.control, self.status, self.shards
        )
        return Maintenance(around, self.rules, self.metrics, self.clock)

    def clock(self) -> int:
        return self.now or time.time_ns() // 1_000_000

    def another(self) -> Maintenance:
        """A second coordinator, which has read all that there is."""
        cluster_state = ClusterState()
        for topic in (self.control, self.status):
            topic.knows.append(cluster_state)
            for record in topic.records:
                deliver(cluster_state, record, self.clock())
        return self._make_keeper(cluster_state, self._make_store())

    def client(self, token: str | None = None) -> FlaskClient:
        coordinator = Coordinator(
            cluster_state=self.cluster_state,
            follower=self.follower,
            maintenance=self.maintenance,
            snapshots=Snapshots(self.store, self.cluster_state, self.shards),
            control=self.control,
            metrics=self.metrics,
            shards=self.shards,
            token=token,
            allow_crash=self.allow_crash,
        )
        self.live = LivePage(coordinator)
        return client_of(make_app(coordinator, self.live))

    def say(self, *records: ReplicaStatus | SnapshotProgress) -> None:
        for record in records:
            self.status.append(record)

    def replicas(self, shard: int = 0, **states: str) -> None:
        """`a="leader", b="standby"`."""
        leader = next((name for name, state in states.items() if state == "leader"), None)
        for name, state in states.items():
            self.say(replica_status(name, state, shard=shard, leader=leader))

    def snapshot(self, offset: int, data: bytes = b"data", **changes: Any) -> Manifest:
        """One in the store."""
        manifest = make_manifest(offset, **changes)
        written = self.store.write_object(manifest.shard, manifest.object, [data])
        manifest = msgspec.structs.replace(manifest, sha256=written.sha256, size=written.size)
        assert self.store.publish(manifest)
        return manifest

    def offsets(self, shard: int = 0) -> list[int]:
        return [each.offset for each in self.store.catalogue(shard).snapshots]


def replica_status(name: str, state: str = "standby", **changes: Any) -> ReplicaStatus:
    now = time.time_ns() // 1_000_000
    told = ReplicaStatus(
        replica=name,
        incarnation=f"{name}-1",
        pid=1,
        shard=0,
        state=state,
        epoch=1,
        leader="a",
        leader_address=None,
        since=0,
        seq=0,
        digest="",
        lag=0,
        lag_s=0.0,
        http="",
        tripwire="",
        time=now,
    )
    return msgspec.structs.replace(told, **changes)


def make_manifest(offset: int, **changes: Any) -> Manifest:
    snapshot_id = changes.pop("id", f"at-{offset}")
    fields: dict[str, Any] = {
        "format": 1,
        "id": snapshot_id,
        "object": manifests.object_name(offset, snapshot_id, "taker"),
        "application": "Ledger",
        "schema_version": 1,
        "shard": 0,
        "shards": 1,
        "epoch": 1,
        "offset": offset,
        "record_digest": "",
        "seq": offset * 2,
        "digest": "",
        "sources": {},
        "sinks": {"results": offset * 2},
        "published": {"results": offset * 2},
        "journal_time": 0,
        "sha256": "",
        "size": 1,
        "content_size": 1_000,
        "replica": "b",
        "time": time.time_ns() // 1_000_000,
        "duration_ms": 1,
    }
    return Manifest(**(fields | changes))
