"""The coordinator's metrics, in the Prometheus client's terms."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import Counter, Gauge

from postjournal.core.snapshot.manifest import Manifest
from services.monitoring import process_registry


class Metrics:
    """One set for each coordinator, so that tests do not share them."""

    def __init__(self) -> None:
        """Registers everything in a registry of its own."""
        self.registry = process_registry()
        self.store_up = self._gauge("store_up", "1 while the snapshot store works, else 0.")
        self._kept = self._gauge("kept", "Snapshots in the store.", "shard")
        self._age = self._gauge(
            "age_seconds", "Since the newest snapshot was taken; -1: there is none.", "shard"
        )
        self._bytes = self._gauge("bytes", "Size of the newest snapshot's object.", "shard")
        self._duration = self._gauge(
            "duration_seconds", "How long the newest snapshot took.", "shard"
        )
        self._offset = self._gauge(
            "offset", "Journal offset that the newest snapshot accounts for.", "shard"
        )
        self.attempts_failed = self._counter(
            "attempts_failed_total", "Attempts after which another replica was asked.", "shard"
        )
        self.failed = self._counter("failed_total", "Snapshots that were given up.", "shard")

    def show(self, shard: int, snapshots: Sequence[Manifest], now: int) -> None:
        """The catalogue of a shard, newest first; `now`: ms since the Unix epoch."""
        label = str(shard)
        for counter in (self.attempts_failed, self.failed):
            counter.labels(label)  # a series that begins with its first event hides it
        self._kept.labels(label).set(len(snapshots))
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
