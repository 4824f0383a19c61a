"""Builds a coordinator on the real Kafka and snapshot store."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Flask
from prometheus_client import CollectorRegistry

from postjournal.adapters.kafka.admin import JournalTrimmer
from postjournal.adapters.kafka.control_log import ControlLog
from postjournal.adapters.kafka.topic_reader import TopicReader, back
from postjournal.adapters.process.clock import SystemClock
from postjournal.adapters.snapshots.catalogue import SnapshotStore
from postjournal.adapters.snapshots.object_store import INTERACTIVE_TIMEOUT_S, ObjectStore
from postjournal.cluster.topics import Topics
from postjournal.config.settings import CoordinatorSettings, Settings, StoreSettings
from services.coordinator.app import make_app
from services.coordinator.cluster_follower import LOOK_BACK, ClusterFollower
from services.coordinator.cluster_state import ClusterState
from services.coordinator.coordinator import Coordinator
from services.coordinator.maintenance import Maintenance, MaintenanceDeps, Rules
from services.coordinator.metrics import Metrics
from services.coordinator.page.routes import LivePage
from services.coordinator.policy import Schedule
from services.coordinator.snapshots import Snapshots
from services.coordinator.topic_watch import TopicWatch, topic_check
from services.server import Closable, OnFatal, close_all


@dataclass(frozen=True)
class Running:
    """A running coordinator; implements `server.Running`. `parts`: closed by `close`."""

    coordinator: Coordinator
    live: LivePage
    parts: tuple[Closable, ...]

    @property
    def app(self) -> Flask:
        return make_app(self.coordinator, self.live)

    @property
    def registry(self) -> CollectorRegistry:
        return self.coordinator.metrics.registry

    @property
    def unavailable_reason(self) -> str | None:
        return self.coordinator.unavailable_reason

    def release_waiting(self) -> None:
        self.live.streams.close()

    def close(self) -> None:
        close_all(*self.parts)


def start(
    settings: Settings, own: CoordinatorSettings, store_settings: StoreSettings, on_fatal: OnFatal
) -> Running:
    """Start a coordinator.

    Starts threads and Kafka clients, so call it after any fork. `on_fatal` is called, by a thread,
    with a configuration error. Raises `StoreUnusable` when the store's URL is invalid, but not
    because Kafka or the store is unavailable.
    """
    topics = Topics.of(settings.namespace, (), ())
    store = SnapshotStore(ObjectStore(store_settings, INTERACTIVE_TIMEOUT_S), settings.namespace)
    cluster_state, metrics = ClusterState(), Metrics()
    follower = _follower(settings, topics, cluster_state, on_fatal)
    control = ControlLog(settings.kafka, topics.control)
    status = ControlLog(settings.kafka, topics.status)
    trimmer = JournalTrimmer(settings.kafka, topics.journal) if own.trim else None
    maintenance = Maintenance(
        MaintenanceDeps(cluster_state, follower, store, control, status, settings.shards),
        Rules(Schedule(own.every_minutes, own.every_commands), own.keep, trimmer),
        metrics,
        wall_clock=SystemClock().wall_ms,
    )
    maintenance.start()
    topic_watch = TopicWatch(topic_check(settings), metrics)
    topic_watch.start()
    coordinator = Coordinator(
        cluster_state=cluster_state,
        follower=follower,
        maintenance=maintenance,
        snapshots=Snapshots(store, cluster_state, settings.shards),
        control=control,
        metrics=metrics,
        shards=settings.shards,
        token=own.token,
        allow_crash=settings.allow_crash,
    )
    live = LivePage(coordinator)
    parts = (live, topic_watch, maintenance, follower, control, status)
    return Running(coordinator, live, parts)


def _follower(
    settings: Settings, topics: Topics, cluster_state: ClusterState, on_fatal: OnFatal
) -> ClusterFollower:
    status, control = (
        TopicReader(settings.kafka, topic, settings.shards, back(LOOK_BACK))
        for topic in (topics.status, topics.control)
    )
    return ClusterFollower(cluster_state, status, control, on_fatal)
