"""What the leader view tells Prometheus: read off the follower when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from services.leader_view.follower import Follower

STUCK_MS = 30_000
"""A loop that has not turned for so long hangs; all its time-outs are far shorter."""


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
