"""What is worth a line in the log: not each of many, and not one of few."""

from __future__ import annotations

from collections import deque

WINDOW_MS = 60_000

ELECTIONS = 3
"""So many within `WINDOW_MS` are a warning: one follows each planned restart."""

LINES, PERIOD_MS = 5, 10_000


class LogLimit:
    """At most `LINES` within `PERIOD_MS`; times are of a monotonic clock."""

    def __init__(self) -> None:
        self._times_ms: deque[int] = deque(maxlen=LINES)
        self._unlogged = 0

    def admit(self, now_ms: int) -> int | None:
        """None: not now; otherwise how many were not logged since the last that was."""
        if len(self._times_ms) == LINES and now_ms - self._times_ms[0] < PERIOD_MS:
            self._unlogged += 1
            return None
        self._times_ms.append(now_ms)
        unlogged, self._unlogged = self._unlogged, 0
        return unlogged


class ElectionMeter:
    """Counts elections by the epochs that were current at different times."""

    def __init__(self) -> None:
        self._epochs: deque[tuple[int, int]] = deque()  # time, epoch
        self._silent_until_ms = 0

    def add(self, epoch: int, now_ms: int) -> int | None:
        """The elections of the last minute, if they are too many; None for a minute after that."""
        self._epochs.append((now_ms, epoch))
        while now_ms - self._epochs[0][0] > WINDOW_MS:
            self._epochs.popleft()
        count = epoch - self._epochs[0][1]
        if count < ELECTIONS or now_ms < self._silent_until_ms:
            return None
        self._silent_until_ms = now_ms + WINDOW_MS
        return count
