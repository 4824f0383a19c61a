"""What the leader view tells Prometheus: read off the follower when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from postjournal.cluster.status import Failover
from services.leader_view.follower import Follower

STUCK_MS = 30_000
"""A loop that has not turned for so long hangs; all its time-outs are far shorter."""

PHASES = ("detect", "claim", "resume", "total")
CAUSES = ("tripwire", "silence", "resigned", "no_leader")
SECONDS = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 60.0),
)


class TakeoverMetrics:
    """All takeovers since the start: a replica's own count dies with it, sometimes unseen."""

    def __init__(self, registry: CollectorRegistry, shards: int) -> None:
        """Every series begins at 0, so that the first takeover is an increase."""
        self._seconds = Histogram(
            "postjournal_view_failover_seconds",
            "Takeovers, as the new leaders told them, by phase",
            ["shard", "phase"],
            buckets=SECONDS,
            registry=registry,
        )
        self._takeovers = Counter(
            "postjournal_view_takeovers",
            "Takeovers, by what made the new leader claim",
            ["shard", "cause"],
            registry=registry,
        )
        for shard in map(str, range(shards)):
            for phase in PHASES:
                self._seconds.labels(shard, phase)
            for cause in CAUSES:
                self._takeovers.labels(shard, cause)

    def count(self, told: Failover) -> None:
        """One that has just been told."""
        parts = (told.detect_ms, told.claim_ms, told.resume_ms, told.total_ms)
        for phase, duration_ms in zip(PHASES, parts, strict=True):
            self._seconds.labels(str(told.shard), phase).observe(duration_ms / 1000)
        self._takeovers.labels(str(told.shard), told.cause).inc()


class ViewMetrics(Collector):
    """Also answers whether the view lives and is ready."""

    def __init__(self, follower: Follower, now_ms: Callable[[], int]) -> None:
        """`now_ms`: the follower's clock."""
        self._follower, self._now_ms = follower, now_ms

    def live(self) -> str:
        """A `monitoring.Check`."""
        still_ms = self._now_ms() - self._follower.stepped_ms
        return f"no turn since {still_ms / 1000:.0f} s" if still_ms > STUCK_MS else ""

    def ready(self) -> str:
        """A `monitoring.Check`."""
        return self._follower.trouble

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        replicas, failovers = self._follower.counts()
        for name, text, value in (
            (
                "synced_timestamp_seconds",
                "When the view in Redis was last brought up to date, since the Unix epoch",
                self._follower.synced_ms / 1000,
            ),
            ("replicas", "Replicas in the view, one for each shard", replicas),
            ("failovers", "Failovers in the view", failovers),
        ):
            yield GaugeMetricFamily(f"postjournal_view_{name}", text, value=value)
