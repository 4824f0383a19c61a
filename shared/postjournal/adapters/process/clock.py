"""The system's clocks."""

from __future__ import annotations

import time


class SystemClock:
    """See `ports.Clock`."""

    def monotonic_ms(self) -> int:
        """Never goes back; counts while the process is stopped."""
        return time.monotonic_ns() // 1_000_000

    def wall_ms(self) -> int:
        """Since the Unix epoch."""
        return time.time_ns() // 1_000_000
