"""`python -m services.leader_view`: keeps the cluster view in Redis up to date."""

from __future__ import annotations

import logging

from postjournal.adapters.kafka.follower import Follower
from postjournal.adapters.kafka.topic_reader import TopicReader, beginning
from postjournal.adapters.process.clock import steady_ms
from postjournal.adapters.redis.client import connect
from postjournal.adapters.redis.cluster_view import RedisView
from postjournal.cluster.topics import Topics
from postjournal.config.settings import RedisAccess, Settings
from services import monitoring
from services.leader_view.metrics import TakeoverMetrics, ViewMetrics
from services.leader_view.view_updater import ViewUpdater
from services.process import run, stop_on_signal

log = logging.getLogger("services.leader_view")


def main() -> None:
    """Follow the status topic until SIGTERM. Raises `ConfigurationError`."""
    settings, redis = Settings.from_environment(), RedisAccess.from_environment()
    store = RedisView(connect(redis), settings.namespace)
    topic = Topics.of(settings.namespace, (), ()).status
    reader = TopicReader(settings.kafka, topic, settings.shards, beginning)
    stop = stop_on_signal()
    address = f"Redis at {redis.address}"
    log.info("following %s at %s; writing to %s", topic, settings.kafka.bootstrap, address)
    registry = monitoring.process_registry()
    takeovers = TakeoverMetrics(registry, settings.shards)
    updater = ViewUpdater(reader, store, steady_ms, address, takeovers.count)
    follower = Follower("status", reader, updater.apply, needs_history=True)
    metrics = ViewMetrics(follower, updater)
    registry.register(metrics)
    monitoring.serve(settings, registry, metrics.live, metrics.ready)
    follower.run(stop)


if __name__ == "__main__":
    run(main)
