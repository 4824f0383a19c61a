"""How fast a leader has been lately: for the status records, and so for people who watch."""

from __future__ import annotations

from postjournal.cluster.status import Load
from postjournal.core.messages import EntryStable

WINDOW_MS = 900
"""Less than the second between two status records, so that each of them has a window of its own."""


class RecentLoad:
    """Notes entries that became stable; sums them up once a second."""

    def __init__(self, now_ms: int) -> None:
        """Nothing has happened since `now_ms`."""
        self._since_ms = now_ms
        self._commands = 0
        self._waits_ms: list[int] = []
        self._appends_ms: list[int] = []
        self._latest: Load | None = None

    def note(self, entry: EntryStable, wall_ms: int) -> None:
        """One entry."""
        self._commands += entry.commands
        self._waits_ms.append(max(wall_ms - entry.oldest_ms, 0))
        self._appends_ms.append(entry.append_ms)

    def look(self, now_ms: int, *, leads: bool) -> Load | None:
        """Of the last whole window; None for who does not lead, and before the first is over."""
        if now_ms - self._since_ms >= WINDOW_MS:
            self._latest = self._sum_up((now_ms - self._since_ms) / 1000)
            self._since_ms, self._commands = now_ms, 0
            self._waits_ms, self._appends_ms = [], []
        return self._latest if leads else None

    def _sum_up(self, seconds: float) -> Load:
        waits_ms, appends_ms = sorted(self._waits_ms), sorted(self._appends_ms)
        return Load(
            commands_per_s=round(self._commands / seconds),
            p50_ms=_percentile(waits_ms, 50),
            p99_ms=_percentile(waits_ms, 99),
            append_p50_ms=_percentile(appends_ms, 50),
        )


def _percentile(ordered: list[int], percent: int) -> int | None:
    """Nearest rank."""
    if not ordered:
        return None
    return ordered[-(-len(ordered) * percent // 100) - 1]
