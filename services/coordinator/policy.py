"""When snapshots are due, which are kept, how far the journal may be trimmed. Pure.

Snapshots are given newest first, as the catalogue has them. Times are ms since the Unix epoch.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from postjournal.core.snapshot.manifest import Manifest

MINUTE_MS = 60_000
RETRY_MS = 5 * MINUTE_MS
"""A scheduled snapshot that was given up is asked for again after this long."""


@dataclass(frozen=True)
class Schedule:
    """Whichever comes first; 0 turns a rule off."""

    every_minutes: int
    every_commands: int

    def due(self, newest: Manifest | None, seq: int, now: int, since: int) -> str | None:
        """The id of the snapshot that is due, or None.

        `seq`: the shard's next; `since`: when this coordinator started, which counts where there
        is no snapshot yet. All coordinators give one id to one occasion.
        """
        offset, seq_then, then = -1, 0, since
        if newest is not None:
            offset, seq_then, then = newest.offset, newest.seq, newest.time
        is_late = self.every_minutes and now - then >= self.every_minutes * MINUTE_MS
        is_much = self.every_commands and seq - seq_then >= self.every_commands
        if not (is_late or is_much):
            return None
        return f"auto-{offset + 1}-{now // RETRY_MS}"


def surplus(snapshots: Sequence[Manifest], keep: int, reading: Collection[str]) -> list[Manifest]:
    """Those beyond the newest `keep`, but none that is being read (ids)."""
    return [each for each in snapshots[keep:] if each.id not in reading]


def trim_anchor(snapshots: Sequence[Manifest]) -> Manifest | None:
    """The snapshot before which the journal is not needed; None: all of it is.

    The oldest one, so that every kept snapshot can be restored; but only when there is another
    in case it is damaged, and when the newest one shows that every output which the trimmed
    records explain is in its topic.
    """
    if len(snapshots) < 2:
        return None
    newest, oldest = snapshots[0], snapshots[-1]
    is_published = all(
        newest.published.get(sink, 0) >= next_seq for sink, next_seq in oldest.sinks.items()
    )
    return oldest if is_published else None
