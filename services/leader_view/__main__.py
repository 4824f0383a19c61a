"""`python -m services.leader_view`: keeps the view of the cluster in Redis."""

from __future__ import annotations

import logging
import time

from postjournal.adapters.kafka.topic_reader import TopicReader, beginning
from postjournal.adapters.redis.client import connect, without_password
from postjournal.adapters.redis.cluster_view import RedisView
from postjournal.cluster.topics import Topics
from postjournal.config.settings import Settings
from services import monitoring
from services.leader_view.follower import Follower
from services.leader_view.metrics import TakeoverMetrics, ViewMetrics
from services.process import run, stop_on_signal

log = logging.getLogger("services.leader_view")


def main() -> None:
    """Until SIGTERM. Raises `ConfigurationError`."""
    settings = Settings.from_environment()
    store = RedisView(connect(settings.redis_url), settings.namespace)
    topic = Topics.of(settings.namespace, (), ()).status
    reader = TopicReader(settings.bootstrap, topic, settings.shards, beginning)
    stop = stop_on_signal()
    where = f"Redis at {without_password(settings.redis_url)}"
    log.info("following %s at %s into %s", topic, settings.bootstrap, where)
    registry = monitoring.process_registry()
    takeovers = TakeoverMetrics(registry, settings.shards)
    follower = Follower(reader, store, _now_ms, where, takeovers.count)
    metrics = ViewMetrics(follower, _now_ms)
    registry.register(metrics)
    monitoring.serve(settings, registry, metrics.live, metrics.ready)
    try:
        follower.run(stop)
    finally:
        reader.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    run(main)
