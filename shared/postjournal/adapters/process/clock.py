"""The clocks of the operating system."""

from __future__ import annotations

import time


class SystemClock:
    """The `Clock` port on the operating system's clocks."""

    def monotonic_ms(self) -> int:
        """For durations: never goes back, and counts while the process is stopped."""
        return time.monotonic_ns() // 1_000_000

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000
