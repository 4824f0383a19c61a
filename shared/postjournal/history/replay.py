"""Replays a journal from the nearest snapshot before a point up to that point."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from postjournal.core import messages as m
from postjournal.core.application import Application
from postjournal.core.errors import PointNotReached
from postjournal.core.limits import Limits
from postjournal.core.reader import Bound, Reader
from postjournal.core.roles import Identity
from postjournal.core.sharding import ShardPlace
from postjournal.recovery.choice import AnyImage

AnyReader = Reader[Any, Any, Any]

Records = Iterable[list[tuple[int, bytes]]]
"""Journal records in order, in chunks: (offset, value)."""


def make_reader(
    application: Application[Any, Any, Any], place: ShardPlace, dedupe_window: int, bound: Bound
) -> AnyReader:
    """Create a reader that stops at `bound`; `dedupe_window`: in commands."""
    identity = Identity("replay", "replay", "", place)
    return Reader(identity, application, Limits(dedupe_window=dedupe_window), bound)


def replay(
    reader: AnyReader,
    image: AnyImage | None,
    records: Callable[[int], Records],
    end: int,
    on_progress: Callable[[int], object],
) -> None:
    """Advance `reader` from `image` to its bound, or to the journal's `end` when it has none.

    `image` None: from the beginning; `records(start)` reads the journal from an offset;
    `on_progress` is called with the next offset. Raises `PointNotReached` when the journal ends
    before the bound, and what `records` raises.
    """
    reader.start(0, 0)
    reader.step(m.Restored(image), 0, 0)
    reader.step(m.JournalEnd(end), 0, 0)
    for chunk in records(reader.position):
        reader.step(m.JournalRecords(chunk), 0, 0)
        on_progress(reader.position)
        if reader.is_at_bound:
            return
    bound = reader.bound
    if not reader.is_at_bound and (bound.offset is not None or bound.seq is not None):
        raise PointNotReached(
            f"the journal ends at offset {end - 1}, seq {reader.journal.next_seq - 1}, before the "
            "requested point"
        )
