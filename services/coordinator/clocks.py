"""Replicas whose clocks differ from this process's: times in records and logs would mislead."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)

DIFFERS_MS = 1_000

WINDOW_MS = 10_000
"""A record that arrives late looks like one of a clock that is behind. Of all that arrive within
this time, the one that seems the furthest ahead shows the difference of the clocks.
"""


class ClockWatch:
    """Compares the times in status records with the times of their arrival."""

    def __init__(self) -> None:
        self._windows: dict[str, tuple[int, int]] = {}  # replica → begin, furthest ahead
        self._differing: set[str] = set()

    def add(self, replica: str, written_ms: int, now_ms: int) -> None:
        """A record has arrived. `written_ms`: by the replica's clock; `now_ms`: by ours."""
        ahead_ms = written_ms - now_ms
        begin_ms, furthest_ms = self._windows.get(replica, (now_ms, ahead_ms))
        furthest_ms = max(furthest_ms, ahead_ms)
        if now_ms - begin_ms < WINDOW_MS:
            self._windows[replica] = begin_ms, furthest_ms
            return
        del self._windows[replica]
        if abs(furthest_ms) <= DIFFERS_MS:
            self._differing.discard(replica)
        elif replica not in self._differing:
            self._differing.add(replica)
            log.warning(
                "the clock of %s differs from this process's by %+.1f s: times in records and logs "
                "mislead, and nothing else depends on them; synchronize the clocks (NTP)",
                *(replica, furthest_ms / 1000),
            )
