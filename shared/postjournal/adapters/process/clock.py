"""The clocks of the operating system."""

from __future__ import annotations

import time

_STARTED_MS = time.time_ns() // 1_000_000 - time.monotonic_ns() // 1_000_000


def steady_ms() -> int:
    """Milliseconds since the Unix epoch as of this process's start, and never set afterwards.

    For times that are compared with each other within one process.
    """
    return _STARTED_MS + time.monotonic_ns() // 1_000_000


class SystemClock:
    """The `Clock` port on the operating system's clocks."""

    def monotonic_ms(self) -> int:
        """For durations: never goes back, and counts while the process is stopped."""
        return time.monotonic_ns() // 1_000_000

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000
