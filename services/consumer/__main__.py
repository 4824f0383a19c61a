"""`python -m services.consumer`: follows one sink, named by the environment variable SINK."""

from __future__ import annotations

import logging
import os
import sys

from postjournal.adapters.redis.client import connect, without_password
from postjournal.adapters.redis.projection import BalancesProjection
from postjournal.config.settings import SINK, Settings
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
    """Follow the sink until SIGTERM. Raises `ConfigurationError`.

    Exits with 1 when outputs are missing, or when the Kafka client must be replaced.
    """
    settings, sink = Settings.from_environment(), SINK.read(os.environ)
    follow = {RESULTS: follow_results, BALANCES: follow_balances}[sink]
    log.info("following %s.%s at %s", settings.namespace, sink, settings.bootstrap)
    try:
        follow(settings)
    except SequenceGap as gap:
        log.critical("outputs are missing in the topic; stopping: %s", gap)
        sys.exit(1)
    except BrokersLost as lost:
        log.critical("%s; exiting so that the process is restarted with a new client", lost)
        sys.exit(1)


def follow_results(settings: Settings) -> None:
    """Print results as a member of a consumer group; several members share the shards."""
    topic = f"{settings.namespace}.{RESULTS}"
    group = f"{settings.namespace}.consumer.{RESULTS}"
    stop = stop_on_signal()
    with subscribe(settings.bootstrap, topic, group=group) as results:
        watch(settings, results, RESULTS)
        ResultsPrinter(results, sys.stdout.buffer).run(stop)


def follow_balances(settings: Settings) -> None:
    """Write the balances of all shards to Redis, together with the positions.

    Without a consumer group, a restart need not wait until the session of the old process expires.
    """
    projection = BalancesProjection(connect(settings.redis_url), settings.namespace)
    topic = f"{settings.namespace}.{BALANCES}"
    stop = stop_on_signal()
    with subscribe(
        settings.bootstrap, topic, positions=projection, partitions=range(settings.shards)
    ) as balances:
        watch(settings, balances, BALANCES)
        what = f"Redis at {without_password(settings.redis_url)}"
        BalancesUpdater(balances, projection, settings.shards, what).run(stop)


def watch(settings: Settings, subscription: Subscription, sink: str) -> None:
    """Serve the consumer's metrics and health checks. Raises `ConfigurationError`."""
    metrics = SubscriptionMetrics(subscription, sink)
    registry = monitoring.process_registry()
    registry.register(metrics)
    monitoring.serve(settings, registry, metrics.live, metrics.ready)


if __name__ == "__main__":
    run(main)
