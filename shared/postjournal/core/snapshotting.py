"""Which snapshot a replica is taking: one at a time, and only at an exact offset of the journal."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from postjournal.core import messages as m
from postjournal.core.roles import Role, SnapshotState
from postjournal.core.snapshot.image import Image

REMEMBERED_REQUESTS = 16
"""A request that arrives twice, from two coordinators, is carried out once."""


class SnapshotTaker:
    """Accepts or refuses requests for snapshots. Methods return effects.

    A standby's state always belongs to an offset. A leader decides ahead of the journal: it
    stops deciding until nothing is in flight (`is_waiting`), for at most `wait_ms`.
    `image()` returns the replica's current state.
    """

    def __init__(
        self, replica: str, image: Callable[[], Image[Any, Any, Any]], wait_ms: int
    ) -> None:
        self._replica, self._image, self._wait_ms = replica, image, wait_ms
        self._current: m.SnapshotRequested | None = None
        self._waiting: tuple[m.SnapshotRequested, int] | None = None
        self._recent: deque[tuple[str, int]] = deque(maxlen=REMEMBERED_REQUESTS)

    @property
    def is_waiting(self) -> bool:
        """Whether a leader is to reach a moment with nothing in flight."""
        return self._waiting is not None

    @property
    def deadline_ms(self) -> int | None:
        """When waiting for that moment is given up; None: not waiting."""
        return self._waiting[1] if self._waiting else None

    def on_requested(self, request: m.SnapshotRequested, role: Role, now_ms: int) -> list[m.Effect]:
        """Take the snapshot, wait for the moment to, or report why not; `role` is the current one.

        A request for another replica, or one that was seen before, has no effect.
        """
        key = (request.snapshot_id, request.attempt)
        if request.replica != self._replica or key in self._recent:
            return []
        self._recent.append(key)
        busy = self._current or (self._waiting and self._waiting[0])
        if busy:
            return [_failed(request, f"busy with snapshot {busy.snapshot_id}")]
        if role is Role.STANDBY:
            return self._take(request)
        if role is Role.LEADER and request.allow_leader:
            self._waiting = (request, now_ms + self._wait_ms)
            return []
        return [_failed(request, f"this replica is {role} now")]

    def on_progressed(self, progress: m.SnapshotProgressed) -> list[m.Effect]:
        """Pass the progress of the upload on to the observer."""
        if progress.state in (SnapshotState.DONE, SnapshotState.FAILED):
            self._current = None
        return [progress]

    def advance(self, now_ms: int, *, is_quiet: bool) -> list[m.Effect]:
        """Of a waiting leader: take the snapshot if `is_quiet`, nothing being in flight."""
        assert self._waiting is not None
        request, deadline_ms = self._waiting
        if is_quiet:
            self._waiting = None
            return self._take(request)
        if now_ms < deadline_ms:
            return []
        return self.refuse("there was no moment with nothing in flight")

    def refuse(self, reason: str) -> list[m.Effect]:
        """Stop waiting, if it waits at all."""
        waiting, self._waiting = self._waiting, None
        return [_failed(waiting[0], reason)] if waiting else []

    def _take(self, request: m.SnapshotRequested) -> list[m.Effect]:
        self._current = request
        return [m.TakeSnapshot(request, self._image())]


def _failed(request: m.SnapshotRequested, error: str) -> m.SnapshotProgressed:
    return m.SnapshotProgressed(
        request.snapshot_id, request.attempt, SnapshotState.FAILED, error=error
    )
