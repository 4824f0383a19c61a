"""`python -m services.consumer`: follows the sink that the environment variable SINK names."""

from __future__ import annotations

import logging
import sys

from postjournal.adapters.redis.client import connect
from postjournal.adapters.redis.projection import BalancesProjection
from postjournal.config.settings import SINK, RedisAccess, Settings
from postjournal.core.errors import BrokersLost, SequenceGap
from postjournal.subscribe import Subscription, subscribe
from services import monitoring
from services.consumer.balances import BalancesUpdater
from services.consumer.metrics import SubscriptionMetrics
from services.consumer.results import ResultsPrinter
from services.process import run, stop_on_signal

log = logging.getLogger("services.consumer")

RESULTS, BALANCES = "results", "balances"


def main() -> None:
    """Follow the sink until SIGTERM; exits with code 1 when outputs or all brokers are lost.

    Raises `ConfigurationError`.
    """
    settings, sink = Settings.from_environment(), SINK.read()
    follow = {RESULTS: follow_results, BALANCES: follow_balances}[sink]
    log.info("following %s.%s at %s", settings.namespace, sink, settings.kafka.bootstrap)
    try:
        follow(settings)
    except SequenceGap as gap:
        log.critical("outputs are missing and cannot be recovered: %s", gap)
        sys.exit(1)
    except BrokersLost as lost:
        log.critical("%s; exiting for a restart with new clients", lost)
        sys.exit(1)


def follow_results(settings: Settings) -> None:
    """Print the results of the shards that the consumer group assigns to this process."""
    topic = f"{settings.namespace}.{RESULTS}"
    group = f"{settings.namespace}.consumer.{RESULTS}"
    stop = stop_on_signal()
    with subscribe(settings.kafka, topic, group=group) as results:
        serve_monitoring(settings, results, RESULTS)
        ResultsPrinter(results, sys.stdout.buffer).run(stop)


def follow_balances(settings: Settings) -> None:
    """Write the balances of all shards to Redis, together with the positions in the topic.

    There is no consumer group, so that a restart does not wait for the end of a group's session.
    """
    redis = RedisAccess.from_environment()
    projection = BalancesProjection(connect(redis), settings.namespace)
    topic = f"{settings.namespace}.{BALANCES}"
    stop = stop_on_signal()
    with subscribe(
        settings.kafka, topic, positions=projection, partitions=range(settings.shards)
    ) as balances:
        serve_monitoring(settings, balances, BALANCES)
        store = f"Redis at {redis.address}"
        BalancesUpdater(balances, projection, settings.shards, store).run(stop)


def serve_monitoring(settings: Settings, subscription: Subscription, sink: str) -> None:
    """Serve the metrics and health checks of a subscription. Raises `ConfigurationError`."""
    metrics = SubscriptionMetrics(subscription, sink)
    registry = monitoring.process_registry()
    registry.register(metrics)
    monitoring.serve(settings, registry, metrics.live, metrics.ready)


if __name__ == "__main__":
    run(main)
