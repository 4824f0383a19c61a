"""Waking an engine's thread when something has happened in another one."""

from __future__ import annotations

import os
import select
from contextlib import suppress


class Wakeup:
    """Any thread may `set` it; one thread waits, then polls everything that sets it.

    It is a pipe, so that librdkafka, which can write to a descriptor, can set it as well:
    `descriptor` is its writing end. It is never closed: clients that are closed in the background
    still write to it.
    """

    def __init__(self) -> None:
        self._reading, self.descriptor = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self.descriptor, False)
        self._poll = select.poll()
        self._poll.register(self._reading, select.POLLIN)

    def set(self) -> None:
        """End the wait under way, or the next one; from any thread, callbacks included."""
        with suppress(BlockingIOError):  # full: it is set
            os.write(self.descriptor, b"\0")

    def wait(self, timeout_s: float) -> None:
        """Return when set since the last return, and after `timeout_s` seconds at the latest."""
        if self._poll.poll(timeout_s * 1000):
            os.read(self._reading, select.PIPE_BUF)
