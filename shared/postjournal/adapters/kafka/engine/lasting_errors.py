"""Errors of Kafka that last: each is logged once, and shown to operators until it is over."""

from __future__ import annotations

from time import monotonic

from confluent_kafka import KafkaError

OVER_S = 10.0
"""An error that has not recurred for this long is over. What fails is repeated more often: sinks,
which wait for the longest, after `sink.MAX_RETRY_S` at the latest."""


DROPPED = frozenset(
    {
        *(KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT, KafkaError._MSG_TIMED_OUT),
        *(KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN),
    }
)
"""Dropped by the client, or lost with a connection: Kafka has refused nothing."""


def is_refusal(error: KafkaError) -> bool:
    """Whether Kafka does not take a record now, and would not take it from another client."""
    return not error.retriable() and not error.fatal() and error.code() not in DROPPED


class LastingErrors:
    """The latest error of each of several activities."""

    def __init__(self) -> None:
        self._latest: dict[str, tuple[str, float]] = {}  # error, when it was seen

    def add(self, what: str, error: str) -> bool:
        """Returns whether it is new, or had been over, and is to be logged."""
        now_s = monotonic()
        known, at_s = self._latest.get(what, ("", 0.0))
        self._latest[what] = error, now_s
        return known != error or now_s - at_s > OVER_S

    def end(self, what: str) -> None:
        """`what` has succeeded."""
        self._latest.pop(what, None)

    @property
    def texts(self) -> list[str]:
        """Those that are not over."""
        since_s = monotonic() - OVER_S
        return [f"{what}: {error}" for what, (error, at) in self._latest.items() if at >= since_s]
