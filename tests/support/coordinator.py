"""A coordinator with a real store in a directory and with topics in memory."""

from __future__ import annotations

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
from services.coordinator.cluster_state import ClusterState, now_ms
from services.coordinator.coordinator import Coordinator
from services.coordinator.maintenance import Maintenance, MaintenanceDeps, Rules
from services.coordinator.metrics import Metrics
from services.coordinator.page.routes import LivePage
from services.coordinator.policy import Schedule
from services.coordinator.snapshots import Snapshots
from tests.support.openapi import client_of


def deliver(cluster_state: ClusterState, record: ControlRecord | StatusRecord, seen: int) -> None:
    """Apply a record as its topic does. `seen`: its Kafka timestamp, ms since the Unix epoch."""
    delivered = TopicRecord(record.shard, 0, None, msgspec.json.encode(record), seen)
    is_control = isinstance(record, SnapshotOrder)
    apply = cluster_state.on_controls if is_control else cluster_state.on_statuses
    apply([delivered])


@dataclass
class Topic:
    """Delivers an appended record to all coordinators at once.

    `seen`: the timestamp of appended records, ms since the Unix epoch; 0: the current time.
    """

    readers: list[ClusterState]
    seen: int = 0
    records: list[Any] = field(default_factory=list)
    is_unavailable: bool = False

    def append(self, record: ControlRecord | StatusRecord) -> None:
        if self.is_unavailable:
            raise JournalUnavailable("Kafka does not answer")
        self.records.append(record)
        for cluster_state in self.readers:
            deliver(cluster_state, record, self.seen or now_ms())


@dataclass
class FakeComponent:
    unavailable_reason: str | None = None


@dataclass
class RecordingTrimmer:
    """Records the trims as (shard, first offset that remains)."""

    trims: list[tuple[int, int]] = field(default_factory=list)

    def trim(self, shard: int, before: int) -> None:
        self.trims.append((shard, before))


class CoordinatorUnderTest:
    """One coordinator; `second_coordinator()` reads the same topics and store.

    `rules`: minutes and commands (of the schedule), keep, trim. `now`: the maintenance's clock, ms
    since the Unix epoch; None: the current time.
    """

    def __init__(self, folder: Path, shards: int = 1, **rules: Any) -> None:
        self.folder, self.shards = folder, shards
        self.store = self._make_store()
        self.cluster_state = ClusterState()
        self.control, self.status = Topic([self.cluster_state]), Topic([self.cluster_state])
        self.follower = FakeComponent()
        self.metrics = Metrics()
        self.trimmer = RecordingTrimmer()
        self.now: int | None = None
        self.rules = Rules(
            Schedule(rules.get("minutes", 0), rules.get("commands", 0)),
            rules.get("keep", 10),
            self.trimmer if rules.get("trim") else None,
        )
        self.maintenance = self._make_maintenance(self.cluster_state, self.store)
        self.allow_crash = False

    def _make_store(self) -> SnapshotStore:
        return SnapshotStore(ObjectStore(StoreSettings(f"file://{self.folder}", None, None)), "t")

    def _make_maintenance(self, cluster_state: ClusterState, store: SnapshotStore) -> Maintenance:
        deps = MaintenanceDeps(
            cluster_state, self.follower, store, self.control, self.status, self.shards
        )
        return Maintenance(deps, self.rules, self.metrics, self.clock)

    def clock(self) -> int:
        return self.now or now_ms()

    def second_coordinator(self) -> Maintenance:
        """Another coordinator's maintenance, which has read all records."""
        cluster_state = ClusterState()
        for topic in (self.control, self.status):
            topic.readers.append(cluster_state)
            for record in topic.records:
                deliver(cluster_state, record, self.clock())
        return self._make_maintenance(cluster_state, self._make_store())

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

    def report(self, *records: ReplicaStatus | SnapshotProgress) -> None:
        for record in records:
            self.status.append(record)

    def replicas(self, shard: int = 0, **states: str) -> None:
        """Report statuses of replicas, for example `a="leader", b="standby"`."""
        leader = next((name for name, state in states.items() if state == "leader"), None)
        for name, state in states.items():
            self.report(replica_status(name, state, shard=shard, leader=leader))

    def snapshot(self, offset: int, data: bytes = b"data", **changes: Any) -> Manifest:
        """Store a snapshot; arguments as for `make_manifest`."""
        manifest = make_manifest(offset, **changes)
        written = self.store.write_object(manifest.shard, manifest.object, [data])
        manifest = msgspec.structs.replace(manifest, sha256=written.sha256, size=written.size)
        assert self.store.publish(manifest)
        return manifest

    def offsets(self, shard: int = 0) -> list[int]:
        return [snapshot.offset for snapshot in self.store.catalogue(shard).snapshots]


def replica_status(name: str, state: str = "standby", **changes: Any) -> ReplicaStatus:
    """A status of an in-sync replica of shard 0, whose leader is "a", with some fields changed."""
    status = ReplicaStatus(
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
        time=now_ms(),
    )
    return msgspec.structs.replace(status, **changes)


def make_manifest(offset: int, **changes: Any) -> Manifest:
    """A manifest of shard 0 at `offset`, with some fields changed."""
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
        "time": now_ms(),
        "duration_ms": 1,
    }
    return Manifest(**(fields | changes))
