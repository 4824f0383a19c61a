"""Which snapshots are due, which are retained, and how far the journal may be trimmed. Pure.

Snapshots are given newest first, as in the catalogue. Times are ms since the Unix epoch.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from postjournal.core.snapshot.manifest import Manifest

MINUTE_MS = 60_000
RETRY_MS = 5 * MINUTE_MS
"""A scheduled snapshot that was given up is ordered again, with another id, after this time."""


@dataclass(frozen=True)
class Schedule:
    """A snapshot is due after so many minutes or commands, whichever comes first; 0: never."""

    every_minutes: int
    every_commands: int

    def due(self, newest: Manifest | None, seq: int, now: int, since: int) -> str | None:
        """The id of the snapshot that is due, or None.

        `newest`: the shard's newest snapshot; `seq`: the shard's next sequence; `since`: when this
        coordinator started, from which minutes count while there is no snapshot. All coordinators
        compute the same id, so that together they order one snapshot.
        """
        offset, seq_then, then = -1, 0, since
        if newest is not None:
            offset, seq_then, then = newest.offset, newest.seq, newest.time
        is_old = self.every_minutes and now - then >= self.every_minutes * MINUTE_MS
        is_far_behind = self.every_commands and seq - seq_then >= self.every_commands
        if not (is_old or is_far_behind):
            return None
        return f"auto-{offset + 1}-{now // RETRY_MS}"


def surplus(snapshots: Sequence[Manifest], keep: int, in_use: Collection[str]) -> list[Manifest]:
    """The snapshots to delete: all but the newest `keep`, and those whose ids are `in_use`."""
    return [snapshot for snapshot in snapshots[keep:] if snapshot.id not in in_use]


def trim_anchor(snapshots: Sequence[Manifest]) -> Manifest | None:
    """The snapshot before which the journal is not needed; None: all of the journal is needed.

    It is the oldest one, so that every retained snapshot can be restored. There must be another,
    in case it is damaged, and the newest one must show that every output which the trimmed records
    explain is in its topic.
    """
    if len(snapshots) < 2:
        return None
    newest, oldest = snapshots[0], snapshots[-1]
    is_published = all(
        newest.published.get(sink, 0) >= next_seq for sink, next_seq in oldest.sinks.items()
    )
    return oldest if is_published else None
