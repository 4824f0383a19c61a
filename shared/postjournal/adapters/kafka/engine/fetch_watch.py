"""Notices partitions that this replica does not receive although others might."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from queue import SimpleQueue
from time import monotonic
from typing import NamedTuple

from confluent_kafka import TopicPartition

CHECK_S = 5.0
"""How often positions and ends are compared; librdkafka reports positions as often."""

STALL_S = 10.0
"""A partition that has not moved for this long, and should have, stands still."""

END_TIMEOUT_S = 0.5


class Stall(NamedTuple):
    """A partition that stands still. `is_proven`: its end is known, and is not reached."""

    topic: str
    reason: str
    is_proven: bool


class _Partition:
    """What is known of one. `at`: the next offset to fetch, the last one that was delivered, and
    whether the end is known; `since_s`: since when it should have moved, None: it need not."""

    __slots__ = ("at", "reason", "since_s")

    def __init__(self, at: tuple[int, int, bool]) -> None:
        self.at = at
        self.since_s: float | None = None
        self.reason = ""


class FetchWatch:
    """Compares the position of each partition with its end, which another connection asks for.

    The position is that of the next fetch, not that of the last record: a topic may end with the
    marker of a transaction, behind which there is nothing to deliver. But a client whose records
    are not taken off its queue fetches nothing, and does not stand still: `delivered` shows that.

    `delivered`: topic → offset of the last record that was delivered; kept by the owner.
    """

    def __init__(
        self, end_of: Callable[[TopicPartition, float], int | None], on_found: Callable[[], None]
    ) -> None:
        """`end_of(partition, timeout_s)`: None when the broker does not answer in time, called by
        a thread of this object; `on_found`: `collect` has something."""
        self._end_of, self._on_found = end_of, on_found
        self.delivered: dict[str, int] = {}
        self._positions: dict[str, int] = {}
        self._watched: dict[str, _Partition] = {}
        self._ends: SimpleQueue[tuple[str, int | None]] = SimpleQueue()
        self._prober: threading.Thread | None = None
        self._check_due_s = 0.0

    def on_positions(self, positions: dict[str, int]) -> None:
        """`positions`: topic → offset of the next fetch, as librdkafka reports it."""
        self._positions.update(positions)

    def check_if_due(self, partitions: Collection[TopicPartition]) -> None:
        """Now and then ask for the ends of `partitions`: those that are fetched at present."""
        now_s = monotonic()
        if now_s < self._check_due_s or (self._prober is not None and self._prober.is_alive()):
            return
        self._check_due_s = now_s + CHECK_S
        wanted = {partition.topic for partition in partitions}
        for topic in self._watched.keys() - wanted:
            del self._watched[topic]
        self._prober = threading.Thread(
            target=self._probe, args=(tuple(partitions),), daemon=True, name="ends"
        )
        self._prober.start()

    def _probe(self, partitions: tuple[TopicPartition, ...]) -> None:
        for partition in partitions:
            self._ends.put((partition.topic, self._end_of(partition, END_TIMEOUT_S)))
        self._on_found()

    def collect(self) -> Iterator[Stall | str]:
        """What stands still, again at each check; as str: a topic that no longer does."""
        now_s = monotonic()
        while not self._ends.empty():
            topic, end = self._ends.get()
            position = self._positions.get(topic)
            if position is None:
                continue  # librdkafka has not reported it yet
            # After an outage all time counts from the first known end.
            at = position, self.delivered.get(topic, -1), end is not None
            watched = self._watched.setdefault(topic, _Partition(at))
            is_behind = end is None or position < end
            if watched.at != at or not is_behind:
                if watched.reason:
                    yield topic
                self._watched[topic] = watched = _Partition(at)
            if not is_behind:
                continue
            if watched.since_s is None:
                watched.since_s = now_s
            still_s = now_s - watched.since_s
            if still_s >= STALL_S:
                what = "cannot be reached" if end is None else f"ends at {end}"
                watched.reason = f"{what}, and nothing arrived from offset {position} on"
                yield Stall(topic, f"{watched.reason} for {still_s:.0f} s", end is not None)
