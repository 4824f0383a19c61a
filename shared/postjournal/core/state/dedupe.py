"""The window of command ids that are already decided, with their first outcomes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from postjournal.core.records import Outcome

E = TypeVar("E")


class DedupeWindow(Generic[E]):
    """The last `size` decided commands, rejections included. Part of the replicated state.

    `size` must be the same on every replica of a shard. A repeat does not move its command to the
    front: the window depends only on the order of first decisions.
    """

    __slots__ = ("_order", "_outcomes", "get", "size")

    def __init__(self, size: int) -> None:
        assert size > 0
        self.size = size
        self._outcomes: dict[str, Outcome[E]] = {}
        self._order: deque[str] = deque()
        self.get: Callable[[str], Outcome[E] | None] = self._outcomes.get
        """Return the first outcome of a command id, or None when it is not in the window."""

    def add(self, outcome: Outcome[E]) -> None:
        """Add a first outcome, and drop the oldest one when there are more than `size`.

        The command's id must not be in the window already.
        """
        order, outcomes, command_id = self._order, self._outcomes, outcome.id
        if len(order) == self.size:
            del outcomes[order.popleft()]
        order.append(command_id)
        outcomes[command_id] = outcome

    def add_all(self, outcomes: Sequence[Outcome[E]]) -> None:
        """Add each outcome in turn; faster than `add` for many."""
        order, window = self._order, self._outcomes
        outcomes = outcomes[-self.size :]
        # Drop first: an id may follow again that is dropped on the way.
        for _ in range(len(order) + len(outcomes) - self.size):
            del window[order.popleft()]
        ids = [outcome.id for outcome in outcomes]
        order += ids
        window.update(zip(ids, outcomes, strict=True))
        assert len(window) == len(order), "a command was decided twice"

    def outcomes(self) -> Iterator[Outcome[E]]:
        """Return the outcomes in the window, the oldest first."""
        return map(self._outcomes.__getitem__, self._order)

    def __len__(self) -> int:
        return len(self._order)
