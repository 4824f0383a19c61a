"""The consumer's metrics and health checks, read from its subscription at each scrape."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from postjournal.subscribe import Subscription

STUCK_S = 30.0
"""A loop that has not polled for so long is stuck; Redis' timeouts are far shorter."""


class SubscriptionMetrics(Collector):
    """The metrics of one subscription; `sink`: their label of this name."""

    def __init__(self, subscription: Subscription, sink: str) -> None:
        self._subscription, self._sink = subscription, sink

    def live(self) -> str:
        idle_s = self._subscription.progress().idle_s
        return f"the topic has not been polled for {idle_s:.0f} s" if idle_s > STUCK_S else ""

    def ready(self) -> str:
        return self._subscription.trouble

    def collect(self) -> Iterable[Metric]:
        progress = self._subscription.progress()
        yield self._counter("outputs", "Outputs delivered, each counted once", progress.outputs)
        yield self._counter(
            "repeats", "Outputs dropped because they were delivered before", progress.repeats
        )
        lag = GaugeMetricFamily(
            "postjournal_consumer_lag_records",
            "Records in the topic that are not read yet",
            labels=["sink"],
        )
        lag.add_metric([self._sink], progress.lag_records)
        yield lag
        last_seq = GaugeMetricFamily(
            "postjournal_consumer_last_seq",
            "Sequence of the last delivered output",
            labels=["sink", "shard"],
        )
        for shard, seq in progress.last_seq.items():
            last_seq.add_metric([self._sink, str(shard)], seq)
        yield last_seq

    def _counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(f"postjournal_consumer_{name}", text, labels=["sink"])
        family.add_metric([self._sink], value)
        return family
