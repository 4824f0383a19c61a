"""The coordinator's Prometheus metrics."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import Counter, Gauge

from postjournal.core.snapshot.manifest import Manifest
from services.monitoring import process_registry


class Metrics:
    """The metrics of one coordinator, in a registry of their own, so that tests do not share them.

    `store_up`, `attempts_failed`, `failed`: set by `Maintenance`; `topic_problem`: by `TopicWatch`.
    """

    def __init__(self) -> None:
        self.registry = process_registry()
        self.store_up = self._gauge("store_up", "1 while the snapshot store is available, else 0.")
        self._count = self._gauge("kept", "Snapshots in the store.", "shard")
        self._age = self._gauge(
            "age_seconds", "Age of the newest snapshot; -1 without any snapshot.", "shard"
        )
        self._bytes = self._gauge("bytes", "Size of the newest snapshot's object.", "shard")
        self._duration = self._gauge(
            "duration_seconds", "Time that the newest snapshot took.", "shard"
        )
        self._offset = self._gauge("offset", "Journal offset of the newest snapshot.", "shard")
        self.attempts_failed = self._counter(
            "attempts_failed_total", "Attempts that were followed by another.", "shard"
        )
        self.failed = self._counter("failed_total", "Snapshots given up.", "shard")
        self.topic_problem = Gauge(
            "postjournal_topic_problem",
            "1 while a topic's setting is not as it must be, 0 when it is again.",
            ("topic", "setting"),
            registry=self.registry,
        )

    def set_snapshots(self, shard: int, snapshots: Sequence[Manifest], now: int) -> None:
        """Set the gauges of a shard from its snapshots, newest first.

        `now`: ms since the Unix epoch.
        """
        label = str(shard)
        for counter in (self.attempts_failed, self.failed):
            counter.labels(label)  # `rate` ignores the first event of a series that starts with it
        self._count.labels(label).set(len(snapshots))
        if not snapshots:
            self._age.labels(label).set(-1)
            return
        newest = snapshots[0]
        self._age.labels(label).set(max(now - newest.time, 0) / 1000)
        self._bytes.labels(label).set(newest.size)
        self._duration.labels(label).set(newest.duration_ms / 1000)
        self._offset.labels(label).set(newest.offset)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"postjournal_snapshot_{name}", text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"postjournal_snapshot_{name}", text, labels, registry=self.registry)
