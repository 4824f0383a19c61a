"""A consumer's metrics, read from its subscription at each scrape."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from postjournal.subscribe import Subscription

STUCK_S = 30.0
"""A loop that has not polled for longer hangs: all its timeouts are far shorter."""


class SubscriptionMetrics(Collector):
    """The metrics of a subscription, and whether its consumer is live and ready.

    `live` and `ready` are `monitoring.Check`s.
    """

    def __init__(self, subscription: Subscription, sink: str) -> None:
        """`sink`: the value of the label of the same name."""
        self._subscription, self._sink = subscription, sink

    def live(self) -> str | None:
        idle_s = self._subscription.progress().idle_s
        return f"no poll for {idle_s:.0f} s" if idle_s > STUCK_S else None

    def ready(self) -> str | None:
        return self._subscription.unavailable_reason

    def collect(self) -> Iterable[Metric]:
        progress = self._subscription.progress()
        yield self._counter("outputs", "Outputs returned, without repeats", progress.outputs)
        yield self._counter(
            "repeats", "Outputs dropped because they were published again", progress.repeats
        )
        lag = GaugeMetricFamily(
            "postjournal_consumer_lag_records",
            "Records in the topic that are not yet read",
            labels=["sink"],
        )
        lag.add_metric([self._sink], progress.lag_records)
        yield lag
        last_seq = GaugeMetricFamily(
            "postjournal_consumer_last_seq",
            "Sequence of the last output returned",
            labels=["sink", "shard"],
        )
        for shard, seq in progress.last_seq.items():
            last_seq.add_metric([self._sink, str(shard)], seq)
        yield last_seq

    def _counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(f"postjournal_consumer_{name}", text, labels=["sink"])
        family.add_metric([self._sink], value)
        return family
