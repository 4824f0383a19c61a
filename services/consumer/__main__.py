"""`python -m services.consumer`: follows one sink; the environment variable SINK says which."""

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
    """Until SIGTERM. Raises `ConfigurationError`."""
    settings, sink = Settings.from_environment(), SINK.read(os.environ)
    follow = {RESULTS: follow_results, BALANCES: follow_balances}[sink]
    log.info("following %s.%s at %s", settings.namespace, sink, settings.bootstrap)
    try:
        follow(settings)
    except SequenceGap as gap:
        log.critical("outputs are missing and cannot be made up for: %s", gap)
        sys.exit(1)
    except BrokersLost as lost:
        log.critical("%s; the process ends, to be started again", lost)
        sys.exit(1)


def follow_results(settings: Settings) -> None:
    """As a member of a consumer group: several of them share the shards."""
    topic = f"{settings.namespace}.{RESULTS}"
    group = f"{settings.namespace}.consumer.{RESULTS}"
    stop = stop_on_signal()
    with subscribe(settings.bootstrap, topic, group=group) as results:
        watch(settings, results, RESULTS)
        ResultsPrinter(results, sys.stdout.buffer).run(stop)


def follow_balances(settings: Settings) -> None:
    """All shards, with the positions in Redis: nobody's session has to time out at a restart."""
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
    """Serve metrics and health. Raises `ConfigurationError`."""
    metrics = SubscriptionMetrics(subscription, sink)
    registry = monitoring.process_registry()
    registry.register(metrics)
    monitoring.serve(settings, registry, metrics.live, metrics.ready)


if __name__ == "__main__":
    run(main)
