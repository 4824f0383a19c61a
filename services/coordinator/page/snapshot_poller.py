"""Lists the snapshot store for the live page."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Condition, Event, Thread

from services.coordinator.ports import UNAVAILABLE
from services.coordinator.snapshots import Row, Snapshots

INTERVAL_S = 0.5
"""Between two listings of the store, while a page is open."""

ACTIVE_S = 10.0
"""How long after a call of `activate` the store is listed; an open page calls it every second."""


class SnapshotPoller:
    """Lists the store in a thread while a page is open, so that a slow store delays no page.

    `rows`: the last listing; `unavailable_reason`: why it may be outdated, None when it is not.
    """

    def __init__(self, snapshots: Snapshots, clock: Callable[[], float] = time.monotonic) -> None:
        """Starts the thread. `clock`: seconds."""
        self._snapshots, self._clock = snapshots, clock
        self.rows: list[Row] = []
        self.unavailable_reason: str | None = None
        self._changed, self._closing = Condition(), Event()
        self._active_until_s = clock()
        self._thread = Thread(target=self._run, name="page-snapshots", daemon=True)
        self._thread.start()

    @property
    def is_active(self) -> bool:
        """Whether `activate` was called in the last `ACTIVE_S` seconds."""
        return self._clock() < self._active_until_s

    def activate(self) -> None:
        """List the store for the next `ACTIVE_S` seconds."""
        with self._changed:
            self._active_until_s = self._clock() + ACTIVE_S
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread, and wait up to 1 s for it."""
        with self._changed:
            self._closing.set()
            self._changed.notify_all()
        self._thread.join(1.0)

    def _run(self) -> None:
        while not self._closing.wait(INTERVAL_S):
            with self._changed:
                self._changed.wait_for(lambda: self.is_active or self._closing.is_set())
            if self._closing.is_set():
                return
            try:
                self.rows, self.unavailable_reason = self._snapshots.rows(), None
            except UNAVAILABLE as error:
                self.unavailable_reason = str(error)
