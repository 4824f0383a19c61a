"""The leader view's metrics: takeovers as they happen, the rest read at each scrape."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from postjournal.adapters.kafka.follower import Follower
from postjournal.cluster.states import FailoverCause, FailoverPhase
from postjournal.cluster.status import Failover
from services.leader_view.view_updater import ViewUpdater

STUCK_S = 30.0
"""A loop whose last turn is longer ago hangs: all its timeouts are far shorter."""

SECONDS = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 60.0),
)


class TakeoverMetrics:
    """The takeovers since the start. A replica's own counters end with its process, sometimes
    before they are scraped.
    """

    def __init__(self, registry: CollectorRegistry, shards: int) -> None:
        self._seconds = Histogram(
            "postjournal_view_failover_seconds",
            "Durations of takeovers as the new leaders report them, by phase",
            ["shard", "phase"],
            buckets=SECONDS,
            registry=registry,
        )
        self._takeovers = Counter(
            "postjournal_view_takeovers",
            "Takeovers, by the cause of the new leader's claim",
            ["shard", "cause"],
            registry=registry,
        )
        # `increase` does not count the first event of a series that begins with it.
        for shard in map(str, range(shards)):
            for phase in FailoverPhase:
                self._seconds.labels(shard, phase)
            for cause in FailoverCause:
                self._takeovers.labels(shard, cause)

    def count(self, failover: Failover) -> None:
        parts = (failover.detect_ms, failover.claim_ms, failover.resume_ms, failover.total_ms)
        for phase, duration_ms in zip(FailoverPhase, parts, strict=True):
            self._seconds.labels(str(failover.shard), phase).observe(duration_ms / 1000)
        self._takeovers.labels(str(failover.shard), failover.cause).inc()


class ViewMetrics(Collector):
    """The metrics of the view, and whether its process is live and ready.

    `live` and `ready` are `monitoring.Check`s.
    """

    def __init__(self, follower: Follower, updater: ViewUpdater) -> None:
        """`follower`: calls `updater` with the status records."""
        self._follower, self._updater = follower, updater

    def live(self) -> str | None:
        idle_s = self._follower.idle_s
        return f"no turn of the loop for {idle_s:.0f} s" if idle_s > STUCK_S else None

    def ready(self) -> str | None:
        return self._updater.unavailable_reason

    def collect(self) -> Iterable[Metric]:
        replicas, failovers = self._updater.counts()
        for name, text, value in (
            (
                "synced_timestamp_seconds",
                "When the view in Redis was last updated, since the Unix epoch",
                self._updater.synced_ms / 1000,
            ),
            ("replicas", "Replicas in the view, counted once for each shard", replicas),
            ("failovers", "Failovers in the view", failovers),
        ):
            yield GaugeMetricFamily(f"postjournal_view_{name}", text, value=value)
