"""Virtual time, one source of randomness, a heap of events and a trace."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from hashlib import blake2b
from math import log
from random import Random
from typing import Any

MS = 1_000
"""Virtual time is in microseconds: one millisecond."""


MAX_EVENTS = 200_000
"""A run with more events is stuck in a cycle (a normal run has about 1,000)."""


class TooManyEvents(Exception):
    """A run exceeded `MAX_EVENTS`."""


class EventLoop:
    """Runs events in the order of their times; events of one instant in the order of scheduling."""

    __slots__ = ("_asked", "_heap", "events", "lines", "now_us", "random")

    def __init__(self, seed: int, *, traced: bool = False) -> None:
        """`traced`: record one trace line per event."""
        self.random = Random(seed)
        self.now_us = 0
        self.events = 0
        self.lines: list[str] | None = [] if traced else None
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._asked = 0

    def at(self, time_us: int, action: Callable[..., None], *args: Any) -> None:
        self._asked += 1
        assert time_us >= self.now_us, "time goes forward"
        heapq.heappush(self._heap, (time_us, self._asked, action, args))

    def after(self, delay_us: int, action: Callable[..., None], *args: Any) -> None:
        self._asked += 1
        heapq.heappush(self._heap, (self.now_us + delay_us, self._asked, action, args))

    def next_at(self) -> int | None:
        """Virtual time of the next event in µs; None if no event is scheduled."""
        return self._heap[0][0] if self._heap else None

    def step(self) -> None:
        """Run all events of the next instant."""
        self.run_to(self._heap[0][0])

    def run_to(self, end_us: int) -> None:
        """Run all events up to and including `end_us` and advance the clock to it."""
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= end_us:
            time_us, _, action, args = pop(heap)
            self.now_us = time_us
            self.events += 1
            if self.events > MAX_EVENTS:
                raise TooManyEvents
            action(*args)
        self.now_us = end_us

    def chance(self, probability: float) -> bool:
        """Draw True with this probability; a probability of 0 draws no random number."""
        return probability > 0 and self.random.random() < probability

    def exponential(self, mean_us: float) -> int:
        """Draw an exponentially distributed delay."""
        return int(-mean_us * log(1.0 - self.random.random()))

    def uniform(self, low_us: int, high_us: int) -> int:
        """Draw a uniformly distributed delay."""
        return low_us + int(self.random.random() * (high_us - low_us))

    def trace(self, who: str, what: str, *args: object) -> None:
        """Record one line; the message is formatted only if the run is traced."""
        if self.lines is not None:
            self.lines.append(f"{self.now_us / MS:10.3f} {who:<12} {what % args}")

    def trace_hash(self) -> str:
        """A digest of the trace: equal for equal runs."""
        return blake2b("\n".join(self.lines or []).encode(), digest_size=8).hexdigest()
