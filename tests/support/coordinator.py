"""A coordinator over a real store in a directory, with the topics in memory."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from flask.testing import FlaskClient

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


@dataclass
class Record:
    """A Kafka message, with the methods that `ClusterState` calls."""

    record: Any
    seen: int

    def value(self) -> bytes:
        return msgspec.json.encode(self.record)

    def timestamp(self) -> tuple[int, int]:
        return 1, self.seen


@dataclass
class Topic:
    """A topic in memory: all `readers` have read a record as soon as it is appended."""

    readers: list[ClusterState]
    seen: int = 0
    records: list[Any] = field(default_factory=list)
    is_unavailable: bool = False

    def append(self, record: ControlRecord | StatusRecord) -> None:
        if self.is_unavailable:
            raise JournalUnavailable("Kafka does not answer")
        self.records.append(record)
        seen = self.seen or time.time_ns() // 1_000_000
        message: Any = Record(record, seen)
        for cluster_state in self.readers:
            if isinstance(record, SnapshotOrder):
                cluster_state.on_control(message)
            else:
                cluster_state.on_status(message)


@dataclass
class NoTrouble:
    trouble: str = ""


@dataclass
class FakeTrimmer:
    """Records the calls: (shard, offset)."""

    done: list[tuple[int, int]] = field(default_factory=list)

    def trim(self, shard: int, before: int) -> None:
        self.done.append((shard, before))


class Setup:
    """A coordinator on topics in memory and a store in `folder`; `another` shares both."""

    def __init__(self, folder: Path, shards: int = 1, **rules: Any) -> None:
        self.folder, self.shards = folder, shards
        self.store = self._make_store()
        self.cluster_state = ClusterState()
        self.control, self.status = Topic([self.cluster_state]), Topic([self.cluster_state])
        self.follower = NoTrouble()
        self.metrics = Metrics()
        self.trimmer = FakeTrimmer()
        self.now: int | None = None
        self.rules = Rules(
            Schedule(rules.get("minutes", 0), rules.get("commands", 0)),
            rules.get("keep", 10),
            self.trimmer if rules.get("trim") else None,
        )
        self.maintenance = self._make_maintenance(self.cluster_state, self.store)
        self.allow_crash = False
        self._pages: list[LivePage] = []

    def _make_store(self) -> SnapshotStore:
        return SnapshotStore(ObjectStore(StoreSettings(f"file://{self.folder}", None, None)), "t")

    def _make_maintenance(self, cluster_state: ClusterState, store: SnapshotStore) -> Maintenance:
        dependencies = MaintenanceDeps(
            cluster_state, self.follower, store, self.control, self.status, self.shards
        )
        return Maintenance(dependencies, self.rules, self.metrics, self.clock)

    def clock(self) -> int:
        return self.now or time.time_ns() // 1_000_000

    def another(self) -> Maintenance:
        """A second coordinator's maintenance, which has read all records."""
        cluster_state = ClusterState()
        for topic in (self.control, self.status):
            topic.readers.append(cluster_state)
            for record in topic.records:
                message: Any = Record(record, self.clock())
                is_order = isinstance(record, SnapshotOrder)
                (cluster_state.on_control if is_order else cluster_state.on_status)(message)
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
        self.close()
        self.live = LivePage(coordinator)
        self._pages.append(self.live)
        return client_of(make_app(coordinator, self.live))

    def close(self) -> None:
        """End the threads of the pages, which list the store while a page is open."""
        for page in self._pages:
            page.close()

    def report(self, *records: ReplicaStatus | SnapshotProgress) -> None:
        for record in records:
            self.status.append(record)

    def replicas(self, shard: int = 0, **states: str) -> None:
        """Report states, as in `replicas(a="leader", b="standby")`."""
        leader = next((name for name, state in states.items() if state == "leader"), None)
        for name, state in states.items():
            self.report(replica_status(name, state, shard=shard, leader=leader))

    def snapshot(self, offset: int, data: bytes = b"data", **changes: Any) -> Manifest:
        """Store a snapshot at `offset`."""
        manifest = make_manifest(offset, **changes)
        written = self.store.write_object(manifest.shard, manifest.object, [data])
        manifest = msgspec.structs.replace(manifest, sha256=written.sha256, size=written.size)
        assert self.store.publish(manifest)
        return manifest

    def offsets(self, shard: int = 0) -> list[int]:
        return [manifest.offset for manifest in self.store.catalogue(shard).snapshots]


def replica_status(name: str, state: str = "standby", **changes: Any) -> ReplicaStatus:
    now = time.time_ns() // 1_000_000
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
        time=now,
    )
    return msgspec.structs.replace(status, **changes)


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
