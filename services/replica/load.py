"""A leader's recent throughput and latency, for its status records."""

from __future__ import annotations

from postjournal.cluster.status import Load
from postjournal.core.messages import EntryStable

WINDOW_MS = 900
"""Shorter than the second between two status records, so that each record has its own window."""


class RecentLoad:
    """Collects entries that became stable, and summarizes them once per window.

    Times `now_ms` are of a monotonic clock; `wall_ms` is ms since the Unix epoch.
    """

    def __init__(self, now_ms: int) -> None:
        """The first window begins at `now_ms`."""
        self._since_ms = now_ms
        self._commands = 0
        self._waits_ms: list[int] = []
        self._appends_ms: list[int] = []
        self._latest: Load | None = None

    def add(self, entry: EntryStable, wall_ms: int) -> None:
        self._commands += entry.commands
        self._waits_ms.append(max(wall_ms - entry.oldest_ms, 0))
        self._appends_ms.append(entry.append_ms)

    def latest(self, now_ms: int, *, leads: bool) -> Load | None:
        """The load of the last whole window; None if not `leads`, or in the first window."""
        if now_ms - self._since_ms >= WINDOW_MS:
            self._latest = self._summarize((now_ms - self._since_ms) / 1000)
            self._since_ms, self._commands = now_ms, 0
            self._waits_ms, self._appends_ms = [], []
        return self._latest if leads else None

    def _summarize(self, seconds: float) -> Load:
        waits_ms, appends_ms = sorted(self._waits_ms), sorted(self._appends_ms)
        return Load(
            commands_per_s=round(self._commands / seconds),
            p50_ms=_percentile(waits_ms, 50),
            p99_ms=_percentile(waits_ms, 99),
            append_p50_ms=_percentile(appends_ms, 50),
        )


def _percentile(ordered: list[int], percent: int) -> int | None:
    """The percentile by nearest rank; None without values."""
    if not ordered:
        return None
    return ordered[-(-len(ordered) * percent // 100) - 1]
