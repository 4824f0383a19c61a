"""What a leader does about a source or a sink that makes no progress while the journal does.

Then its heartbeats keep the leader in office, and standbys see a healthy leader; but nothing is
decided, or nothing published. Another replica may do better: it has other connections, and perhaps
another network. Whether it does is known only when it leads, since only a leader uses sources and
sinks. Nothing here is needed for safety.
"""

from __future__ import annotations

from collections.abc import Mapping

from postjournal.core.limits import Limits
from postjournal.core.state.outbox import Publication

JOURNAL_GAP_MS = 1_000
"""Without a read-back for this long the journal makes no progress either: Kafka is unavailable."""

LONGEST = 10
"""The bound of an impairment's length, as a multiple of the first one's."""

OVER = 3
"""An impairment is over when nothing has stood still for this multiple of `stall_ms`."""


class Impairment:
    """Whether this replica should lead only when no other one does, and why.

    It outlives incarnations. `until_ms`: its end; `weight`: its length, as a multiple of the first
    one's: so many times as long a claim waits, so that elections that lead to nothing become rare;
    `reason`: of the latest one; None when no leadership of this replica lacked progress, or a later
    one makes it. A leader that is impaired stays: all others have tried, or will not do better so
    soon. It resigns again when its impairment has ended, each time later, as long as it makes no
    progress.
    """

    __slots__ = ("reason", "until_ms", "weight")

    def __init__(self) -> None:
        self.until_ms = self.weight = 0
        self.reason: str | None = None

    def is_present(self, now_ms: int) -> bool:
        """Whether others should lead."""
        return self.reason is not None and now_ms < self.until_ms

    def begin(self, reason: str, now_ms: int, first_ms: int) -> None:
        """A leadership made no progress. `first_ms`: the length of a first impairment, and of one
        long after the last."""
        if now_ms - self.until_ms > self.weight * first_ms:
            self.weight = 0
        self.weight = min(2 * self.weight or 1, LONGEST)
        self.reason, self.until_ms = reason, now_ms + self.weight * first_ms

    def end(self) -> None:
        """A leadership makes progress."""
        self.reason, self.weight, self.until_ms = None, 0, 0


class Stalls:
    """The sources and sinks of one leadership that make no progress. Times in ms.

    `due_ms`: when `check` may find something although nothing has arrived; None: never.
    """

    __slots__ = (
        "_found_ms",
        "_impairment",
        "_limits",
        "_moved_ms",
        "_read_back_ms",
        "_since_ms",
        "_sources",
        "due_ms",
    )

    def __init__(self, limits: Limits, impairment: Impairment, now_ms: int) -> None:
        self._limits, self._impairment = limits, impairment
        self._read_back_ms = self._since_ms = self._found_ms = now_ms
        self._moved_ms: dict[str, int] = {}  # sink → when it made progress
        self._sources: dict[str, str] = {}
        self.due_ms: int | None = None

    def on_read_back(self, now_ms: int) -> None:
        """An own record was read back. After an outage all time counts from now."""
        if now_ms - self._read_back_ms >= JOURNAL_GAP_MS:
            self._since_ms = now_ms
            self._sources.clear()
        self._read_back_ms = now_ms

    def on_source(self, topic: str, reason: str | None) -> None:
        """See `SourceStalled`."""
        if reason is None:
            self._sources.pop(topic, None)
        else:
            self._sources[topic] = f"source {topic}: {reason}"

    def on_published(self, sink: str, now_ms: int) -> None:
        """The sink has made progress."""
        self._moved_ms[sink] = now_ms

    def check(self, publications: Mapping[str, Publication], now_ms: int) -> str | None:
        """Return why the leader is to resign now, or None."""
        reason, impairment = self._find(publications, now_ms), self._impairment
        if reason is not None:
            self._found_ms = now_ms
            if not impairment.is_present(now_ms):
                impairment.begin(reason, now_ms, self._limits.impaired_ms)
                return reason
            impairment.reason = reason
            self.due_ms = impairment.until_ms
        elif now_ms - self._found_ms >= OVER * self._limits.stall_ms:
            impairment.end()
        return None

    def _find(self, publications: Mapping[str, Publication], now_ms: int) -> str | None:
        self.due_ms = None
        if now_ms - self._read_back_ms >= JOURNAL_GAP_MS:
            return None
        for sink, publication in publications.items():
            if publication.complete:
                self._moved_ms[sink] = now_ms
                continue
            moved_ms = max(self._moved_ms.get(sink, 0), self._since_ms)
            due_ms = moved_ms + self._limits.stall_ms
            if now_ms >= due_ms:
                still_s = (now_ms - moved_ms) // 1_000
                return f"sink {sink}: nothing was acknowledged for {still_s} s"
            self.due_ms = due_ms if self.due_ms is None else min(self.due_ms, due_ms)
        return next(iter(self._sources.values()), None)
