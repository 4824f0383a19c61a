"""Waking an engine's thread when something has happened in another one."""

from __future__ import annotations

from contextlib import suppress
from queue import Empty, SimpleQueue


class Wakeup:
    """Any thread may `set` it; one thread waits, then polls everything that sets it."""

    def __init__(self) -> None:
        self._set: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """End the wait under way, or the next one; from any thread, callbacks included."""
        self._set.put(None)

    def wait(self, timeout_s: float) -> None:
        """Return when set since the last return, and after `timeout_s` seconds at the latest."""
        with suppress(Empty):
            self._set.get(timeout=timeout_s)
            while True:
                self._set.get_nowait()
