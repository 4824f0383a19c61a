"""The last two minutes of each shard, for the curves of the page. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

from postjournal.cluster.status import Load, ReplicaStatus, StatusRecord

KEPT = 120
EVERY_MS = 800
"""Leaders say something once a second, and oftener when something changes."""


class Curves(msgspec.Struct, frozen=True):
    """One value a second, oldest first: commands/s; ms from source to stable, None: no command."""

    rates: list[int]
    p50_ms: list[int | None]
    p99_ms: list[int | None]


class History:
    """What leaders said of their load."""

    def __init__(self) -> None:
        """Nothing is known."""
        self._loads: dict[int, deque[Load]] = {}
        self._last_ms: dict[int, int] = {}

    def take(self, record: StatusRecord) -> None:
        """A record of the status topic."""
        if not isinstance(record, ReplicaStatus) or record.load is None:
            return
        shard = record.shard
        if record.time - self._last_ms.get(shard, 0) >= EVERY_MS:
            self._last_ms[shard] = record.time
            self._loads.setdefault(shard, deque(maxlen=KEPT)).append(record.load)

    def curves(self, shard: int) -> Curves:
        """Of one shard."""
        loads: Iterable[Load] = list(self._loads.get(shard, ()))
        return Curves(
            rates=[load.commands_per_s for load in loads],
            p50_ms=[load.p50_ms for load in loads],
            p99_ms=[load.p99_ms for load in loads],
        )
