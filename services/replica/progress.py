"""The progress of a restore or a catch-up, for log, metrics and status records."""

from __future__ import annotations

import logging
from collections import deque

from postjournal.adapters.snapshots.manager import RestoreProgress
from postjournal.cluster.status import CatchUp
from postjournal.core.roles import Role
from postjournal.runtime import Engine

log = logging.getLogger(__name__)

LOG_EVERY_MS = 2_000
RATE_OVER_MS = 3_000


class Progress:
    """Measures the progress of one shard; `look` is called about once a second."""

    def __init__(self, shard: int) -> None:
        self._shard = shard
        self._seen: deque[tuple[int, int, int]] = deque()  # (ms, journal position, seq)
        self._logged_ms = 0

    def look(
        self, engine: Engine, restoring: RestoreProgress | None, now_ms: int
    ) -> CatchUp | None:
        """The progress at `now_ms` (monotonic clock); None when the engine is in sync."""
        if engine.role not in (Role.RESTORING, Role.CATCHING_UP):
            self._seen.clear()
            return None
        if restoring is not None:
            return CatchUp("snapshot", restoring.read, restoring.size)
        if engine.target is None:
            return None
        found = self._journal(engine.position, engine.target, engine.journal.next_seq, now_ms)
        self._log(found, now_ms)
        return found

    def _journal(self, position: int, target: int, seq: int, now_ms: int) -> CatchUp:
        seen = self._seen
        seen.append((now_ms, position, seq))
        while len(seen) > 2 and now_ms - seen[1][0] >= RATE_OVER_MS:
            seen.popleft()
        then_ms, then, seq_then = seen[0]
        records_per_s = (position - then) * 1000 / max(now_ms - then_ms, 1)
        left_s = round((target - position) / records_per_s, 1) if records_per_s else None
        commands_per_s = (seq - seq_then) * 1000 // max(now_ms - then_ms, 1)
        return CatchUp("journal", position, target, commands_per_s, left_s)

    def _log(self, found: CatchUp, now_ms: int) -> None:
        if now_ms - self._logged_ms < LOG_EVERY_MS:
            return
        self._logged_ms = now_ms
        log.info(
            "shard %d: catching up: %d of %d journal records, %d commands/s, %s left",
            *(self._shard, found.done, found.total, found.commands_per_s),
            "?" if found.left_s is None else f"{found.left_s:.0f} s",
        )
