"""When status records arrived, by the clock of the process that reads them. Pure.

Whether a replica is alive is seen from how long ago its last record arrived. Its own clock and
Kafka's may differ from the reader's by any amount.
"""

from __future__ import annotations


class Arrivals:
    """Converts the timestamps of a topic's records; times are ms.

    A record that is read as it is written has arrived now. Those that the topic held before have
    timestamps only. Until they have all been read, these stand for the times of arrival; then all
    are shifted so that the latest of them has arrived now (`settle`). So a reader that has just
    started may take a dead replica for a live one for some seconds, and never the other way round.

    `is_live`: all that the topic held before has been read.
    """

    def __init__(self) -> None:
        self._newest_ms: int | None = None
        self.is_live = False

    def of(self, stamp_ms: int, now_ms: int) -> int:
        """The arrival of a record with this timestamp, by the reader's clock, or to be shifted."""
        if self.is_live:
            return now_ms
        self._newest_ms = stamp_ms if self._newest_ms is None else max(self._newest_ms, stamp_ms)
        return stamp_ms

    def settle(self, now_ms: int) -> int:
        """All that the topic held before has been read; by how much to shift its arrivals.

        0 when that was known already.
        """
        if self.is_live:
            return 0
        self.is_live = True
        return 0 if self._newest_ms is None else now_ms - self._newest_ms
