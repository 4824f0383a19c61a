"""The leader view's metrics and health checks, read from its follower at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from postjournal.cluster.states import FailoverCause, FailoverPhase
from postjournal.cluster.status import Failover
from services.leader_view.follower import Follower

STUCK_MS = 30_000
"""A loop that has not run for so long is stuck; all its timeouts are far shorter."""

BUCKETS_S = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 60.0),
)


class TakeoverMetrics:
    """Counts all takeovers since the start.

    A replica counts its own takeovers, but that count is lost when it is killed, sometimes before
    it was scraped.
    """

    def __init__(self, registry: CollectorRegistry, shards: int) -> None:
        """Create every series with 0, so that `increase` includes the first takeover."""
        self._seconds = Histogram(
            "postjournal_view_failover_seconds",
            "Duration of takeovers as reported by the new leaders, by phase",
            ["shard", "phase"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._takeovers = Counter(
            "postjournal_view_takeovers",
            "Takeovers, by the reason why the new leader claimed",
            ["shard", "cause"],
            registry=registry,
        )
        for shard in map(str, range(shards)):
            for phase in FailoverPhase:
                self._seconds.labels(shard, phase)
            for cause in FailoverCause:
                self._takeovers.labels(shard, cause)

    def count(self, failover: Failover) -> None:
        shard = str(failover.shard)
        for phase in FailoverPhase:
            self._seconds.labels(shard, phase).observe(failover.duration_ms(phase) / 1000)
        self._takeovers.labels(shard, failover.cause).inc()


class ViewMetrics(Collector):
    """The metrics of the view; `now_ms`: the follower's clock."""

    def __init__(self, follower: Follower, now_ms: Callable[[], int]) -> None:
        self._follower, self._now_ms = follower, now_ms

    def live(self) -> str:
        idle_ms = self._now_ms() - self._follower.stepped_ms
        return f"the loop has not run for {idle_ms / 1000:.0f} s" if idle_ms > STUCK_MS else ""

    def ready(self) -> str:
        return self._follower.trouble

    def collect(self) -> Iterable[Metric]:
        replicas, failovers = self._follower.counts()
        for name, text, value in (
            (
                "synced_timestamp_seconds",
                "When the view in Redis was last updated, since the Unix epoch",
                self._follower.synced_ms / 1000,
            ),
            ("replicas", "Replicas in the view, counted once per shard", replicas),
            ("failovers", "Failovers in the view", failovers),
        ):
            yield GaugeMetricFamily(f"postjournal_view_{name}", text, value=value)
