"""What librdkafka cannot read at present."""

from __future__ import annotations

import logging
from time import monotonic

log = logging.getLogger(__name__)

OVER_S = 5.0
"""An error that has not recurred for this long is over: librdkafka repeats it while it lasts."""


class ReadErrors:
    """The errors of one shard's consumer, by topic."""

    def __init__(self, shard: int) -> None:
        self._shard = shard
        self._latest: dict[str | None, tuple[str, float]] = {}  # error, when it was seen

    def add(self, topic: str | None, error: str) -> None:
        """The same error is logged once while it lasts. `topic`: None, if it concerns no topic."""
        now_s = monotonic()
        known, at_s = self._latest.get(topic, ("", 0.0))
        self._latest[topic] = error, now_s
        if known != error or now_s - at_s > OVER_S:
            what = "Kafka" if topic is None else f"{topic}/{self._shard}"
            log.warning("%s: cannot be read: %s; trying again", what, error)

    @property
    def lasting(self) -> list[str]:
        """For operators: the topics that cannot be read, and why."""
        since_s = monotonic() - OVER_S
        return [
            f"{topic} cannot be read: {error}"
            for topic, (error, at_s) in self._latest.items()
            if topic is not None and at_s >= since_s
        ]
