"""The system's clocks."""

from __future__ import annotations

import time


class SystemClock:
    """The `Clock` port."""

    def monotonic_ms(self) -> int:
        """For durations: never goes back, and counts while the process is stopped."""
        return time.monotonic_ns() // 1_000_000

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000
