"""Which snapshot a replica is taking: one at a time, and only at an exact offset of the journal."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from postjournal.core import messages as m
from postjournal.core.snapshot.image import Image

REMEMBERED_ORDERS = 16
"""An order that comes twice, from two coordinators, is one order."""


class SnapshotTaker:
    """A replica's dealings with snapshots. Methods return effects.

    A standby's state is that of an offset at any time. A leader decides ahead of the journal: it
    stops deciding until nothing is in flight (`is_waiting`).
    """

    def __init__(
        self, replica: str, image: Callable[[], Image[Any, Any, Any]], wait_ms: int
    ) -> None:
        """`replica`: whose; `image`: of the state now; `wait_ms`: how long a leader waits."""
        self._replica, self._image, self._wait_ms = replica, image, wait_ms
        self._current: m.SnapshotRequested | None = None
        self._waiting: tuple[m.SnapshotRequested, int] | None = None
        self._recent: deque[tuple[str, int]] = deque(maxlen=REMEMBERED_ORDERS)

    @property
    def is_waiting(self) -> bool:
        """A leader shall come to a moment with nothing in flight."""
        return self._waiting is not None

    def on_asked(self, asked: m.SnapshotRequested, role: str, now_ms: int) -> list[m.Effect]:
        """`role`: the replica's, now."""
        order = (asked.snapshot_id, asked.attempt)
        if asked.replica != self._replica or order in self._recent:
            return []
        self._recent.append(order)
        busy = self._current or (self._waiting and self._waiting[0])
        if busy:
            return [_failed(asked, f"busy with snapshot {busy.snapshot_id}")]
        if role == "standby":
            return self._take(asked)
        if role == "leader" and asked.allow_leader:
            self._waiting = (asked, now_ms + self._wait_ms)
            return []
        return [_failed(asked, f"this replica is {role} now")]

    def on_progressed(self, progress: m.SnapshotProgressed) -> list[m.Effect]:
        """What the one that stores it says."""
        if progress.state in ("done", "failed"):
            self._current = None
        return [progress]

    def advance(self, now_ms: int, *, is_quiet: bool) -> list[m.Effect]:
        """A leader that is waiting: `is_quiet` when nothing is in flight."""
        assert self._waiting is not None
        asked, deadline_ms = self._waiting
        if is_quiet:
            self._waiting = None
            return self._take(asked)
        if now_ms < deadline_ms:
            return []
        return self.refuse("there was no moment with nothing in flight")

    def refuse(self, why: str) -> list[m.Effect]:
        """Give up waiting, if at all."""
        waiting, self._waiting = self._waiting, None
        return [_failed(waiting[0], why)] if waiting else []

    def _take(self, asked: m.SnapshotRequested) -> list[m.Effect]:
        self._current = asked
        return [m.TakeSnapshot(asked, self._image())]


def _failed(asked: m.SnapshotRequested, error: str) -> m.SnapshotProgressed:
    return m.SnapshotProgressed(asked.snapshot_id, asked.attempt, "failed", error=error)
