"""A coordinator on the real Kafka and store: the one place where its parts are put together."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Flask
from prometheus_client import CollectorRegistry

from postjournal.adapters.kafka.admin import JournalTrimmer
from postjournal.adapters.kafka.control_log import ControlLog
from postjournal.adapters.kafka.topic_reader import TopicReader, back
from postjournal.adapters.snapshots.catalogue import SnapshotStore
from postjournal.adapters.snapshots.object_store import INTERACTIVE_TIMEOUT_S, ObjectStore
from postjournal.cluster.topics import Topics
from postjournal.config.settings import CoordinatorSettings, Settings, StoreSettings
from services.coordinator.app import make_app
from services.coordinator.catalogue import Snapshots
from services.coordinator.cluster_state import Coordinator
from services.coordinator.following import LOOK_BACK, ClusterFollower, ClusterState
from services.coordinator.maintenance import Maintenance, MaintenanceDeps, Rules
from services.coordinator.metrics import Metrics
from services.coordinator.page.routes import LivePage
from services.coordinator.policy import Schedule
from services.server import Closable, OnFatal, close_all


@dataclass(frozen=True)
class Running:
    """A coordinator and what is to be closed after it."""

    coordinator: Coordinator
    live: LivePage
    parts: tuple[Closable, ...]

    @property
    def app(self) -> Flask:
        """See `server.Running`."""
        return make_app(self.coordinator, self.live)

    @property
    def registry(self) -> CollectorRegistry:
        """See `server.Running`."""
        return self.coordinator.metrics.registry

    @property
    def unavailable_reason(self) -> str | None:
        """See `server.Running`."""
        return self.coordinator.unavailable_reason

    def release_waiting(self) -> None:
        """Pages that are open."""
        self.live.streams.close()

    def close(self) -> None:
        close_all(*self.parts)


def start(
    settings: Settings, own: CoordinatorSettings, store_settings: StoreSettings, on_fatal: OnFatal
) -> Running:
    """Threads and Kafka clients included, so call it after any fork. Raises `StoreUnusable`."""
    topics = Topics.of(settings.namespace, (), ())
    store = SnapshotStore(ObjectStore(store_settings, INTERACTIVE_TIMEOUT_S), settings.namespace)
    cluster_state, metrics = ClusterState(), Metrics()
    statuses, controls = (
        TopicReader(settings.kafka, topic, settings.shards, back(LOOK_BACK))
        for topic in (topics.status, topics.control)
    )
    follower = ClusterFollower(cluster_state, statuses, controls, on_fatal)
    control = ControlLog(settings.kafka, topics.control)
    status = ControlLog(settings.kafka, topics.status)
    trimmer = JournalTrimmer(settings.kafka, topics.journal) if own.trim else None
    rules = Rules(Schedule(own.every_minutes, own.every_commands), own.keep, trimmer)
    around = MaintenanceDeps(cluster_state, follower, store, control, status, settings.shards)
    maintenance = Maintenance(around, rules, metrics)
    maintenance.start()
    snapshots = Snapshots(store, cluster_state, settings.shards)
    coordinator = Coordinator(
        cluster_state=cluster_state,
        follower=follower,
        maintenance=maintenance,
        snapshots=snapshots,
        control=control,
        metrics=metrics,
        shards=settings.shards,
        token=own.token,
        allow_crash=settings.allow_crash,
    )
    live = LivePage(coordinator)
    return Running(coordinator, live, (live, maintenance, follower, control, status))
