"""The progress of a restore or a catch-up, for the log, metrics and status records."""

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


class ProgressMeter:
    """Measures the progress of one shard; `measure` is called about once a second."""

    def __init__(self, shard: int) -> None:
        self._shard = shard
        self._samples: deque[tuple[int, int, int]] = deque()  # (ms, journal position, seq)
        self._logged_ms = 0

    def measure(
        self, engine: Engine, restoring: RestoreProgress | None, now_ms: int
    ) -> CatchUp | None:
        """The progress at `now_ms` (monotonic clock); None when the engine is in sync."""
        if engine.role not in (Role.RESTORING, Role.CATCHING_UP):
            self._samples.clear()
            return None
        if restoring is not None:
            return CatchUp("snapshot", restoring.read, restoring.size)
        if engine.target is None:
            return None
        progress = self._measure_journal(
            engine.position, engine.target, engine.journal.next_seq, now_ms
        )
        self._log(progress, now_ms)
        return progress

    def _measure_journal(self, position: int, target: int, seq: int, now_ms: int) -> CatchUp:
        samples = self._samples
        samples.append((now_ms, position, seq))
        while len(samples) > 2 and now_ms - samples[1][0] >= RATE_OVER_MS:
            samples.popleft()
        first_ms, first_position, first_seq = samples[0]
        elapsed_ms = max(now_ms - first_ms, 1)
        records_per_s = (position - first_position) * 1000 / elapsed_ms
        left_s = round((target - position) / records_per_s, 1) if records_per_s else None
        commands_per_s = (seq - first_seq) * 1000 // elapsed_ms
        return CatchUp("journal", position, target, commands_per_s, left_s)

    def _log(self, progress: CatchUp, now_ms: int) -> None:
        if now_ms - self._logged_ms < LOG_EVERY_MS:
            return
        self._logged_ms = now_ms
        log.info(
            "shard %d: catching up: %d of %d journal records, %d commands/s, %s left",
            *(self._shard, progress.done, progress.total, progress.commands_per_s),
            "?" if progress.left_s is None else f"{progress.left_s:.0f} s",
        )
