"""The load of each shard in the last two minutes, for the curves of the live page. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

from postjournal.cluster.status import Load, ReplicaStatus, StatusRecord

MAX_VALUES = 120
"""Per shard: two minutes, at one value per second."""

MIN_INTERVAL_MS = 800
"""Leaders write a status once a second, and more often when their state changes."""


class Curves(msgspec.Struct, frozen=True):
    """One value per second, oldest first.

    `rates`: commands/s; `p50_ms`, `p99_ms`: from source to stable, None: there was no command.
    """

    rates: list[int]
    p50_ms: list[int | None]
    p99_ms: list[int | None]


class LoadHistory:
    """The loads that leaders reported."""

    def __init__(self) -> None:
        self._loads: dict[int, deque[Load]] = {}
        self._last_ms: dict[int, int] = {}

    def add(self, record: StatusRecord) -> None:
        """Add the load of a status record, if it has one and the last one is old enough."""
        if not isinstance(record, ReplicaStatus) or record.load is None:
            return
        shard = record.shard
        if record.time - self._last_ms.get(shard, 0) >= MIN_INTERVAL_MS:
            self._last_ms[shard] = record.time
            self._loads.setdefault(shard, deque(maxlen=MAX_VALUES)).append(record.load)

    def curves(self, shard: int) -> Curves:
        """The curves of one shard; empty when its leader has reported no load."""
        loads: Iterable[Load] = list(self._loads.get(shard, ()))
        return Curves(
            rates=[load.commands_per_s for load in loads],
            p50_ms=[load.p50_ms for load in loads],
            p99_ms=[load.p99_ms for load in loads],
        )
