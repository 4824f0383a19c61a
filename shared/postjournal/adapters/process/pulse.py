"""Shows that the loops of a process's threads turn.

A thread that has ended by an exception ends the process; one that hangs, in a library or on a lock,
would not be noticed otherwise.
"""

from __future__ import annotations

from time import monotonic
from types import TracebackType

LIMIT_S = 60.0
"""Far above what a turn takes: requests to Kafka, Redis and the store have shorter time-outs."""

_pulses: set[Pulse] = set()


class Pulse:
    """Of one loop, while it is entered as a context manager: the loop calls `beat` in each turn."""

    def __init__(self, name: str, limit_s: float = LIMIT_S) -> None:
        """`name`: of the thread; `limit_s`: a turn that takes longer than this never ends."""
        self.name, self._limit_s = name, limit_s
        self._beat_s = monotonic()

    def __enter__(self) -> Pulse:
        self.beat()
        _pulses.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _pulses.discard(self)

    def beat(self) -> None:
        """The loop turns."""
        self._beat_s = monotonic()

    @property
    def silent_s(self) -> float:
        return monotonic() - self._beat_s

    @property
    def is_lost(self) -> bool:
        """Whether the loop has not turned for too long."""
        return self.silent_s > self._limit_s


def lost_pulses() -> list[Pulse]:
    """Those of this process whose loops hang."""
    return [pulse for pulse in tuple(_pulses) if pulse.is_lost]


def hung_threads() -> str | None:
    """What hangs in this process, for `/livez`; None when nothing does."""
    lost = lost_pulses()
    return ", ".join(f"the thread {p.name} hangs for {p.silent_s:.0f} s" for p in lost) or None


def forgive() -> None:
    """The whole process was stopped: count from now."""
    for pulse in tuple(_pulses):
        pulse.beat()
