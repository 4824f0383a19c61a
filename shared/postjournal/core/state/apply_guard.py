"""What a replica does about an accepted record at which its process dies every time.

A process that dies is started again, and reads the same record again. When it died for a reason
that has passed, that is right. When the application crashes at that record (a stack overflow in a C
library, an endless loop, more memory than there is), it would do so each time.
"""

from __future__ import annotations

from typing import Any, Protocol

from postjournal.core.errors import ApplicationFaulty, ShardHalted
from postjournal.core.records import Entry
from postjournal.core.state.state_machine import StateMachine

NONE = -1
"""In place of an offset."""


class Mark(Protocol):
    """One number, of the index 0."""

    def __setitem__(self, index: int, offset: int, /) -> None: ...


class ApplyGuard:
    """Marks the entry that is being applied where the mark outlives the process."""

    __slots__ = ("_fatal_offset", "_mark")

    def __init__(self, mark: Mark | None = None, fatal_offset: int = NONE) -> None:
        """`mark`: of one number, the offset of the entry that is being applied, or `NONE`.

        `fatal_offset`: of the entry that is not to be applied again, or `NONE`.
        """
        self._mark = [NONE] if mark is None else mark
        self._fatal_offset = fatal_offset

    def apply(self, machine: StateMachine[Any, Any, Any], offset: int, entry: Entry[Any]) -> None:
        """Apply the accepted entry at `offset`.

        Raises `ApplicationFaulty`, also instead of applying the entry at `fatal_offset`.
        """
        if offset == self._fatal_offset:
            raise ApplicationFaulty(
                f"the process has died each time that it applied the entry at offset {offset} "
                f"(seq {entry.seq} to {entry.seq + len(entry.batch) - 1}); `last_end` has the "
                "cause. Nothing is lost. Correct the application and update this replica, or, if "
                "the cause is over, restart it: it continues with that entry"
            )
        self._mark[0] = offset
        try:
            machine.apply(entry)
        except ShardHalted:  # explained, and not repeated
            self._mark[0] = NONE
            raise
        self._mark[0] = NONE
