"""The window of command ids already decided, with their first outcomes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from postjournal.core.records import Outcome

E = TypeVar("E")


class DedupeWindow(Generic[E]):
    """The last `size` decided commands, rejections included. Part of the replicated state.

    A repeat does not move its command to the front: what is remembered depends only on the
    order of first decisions.
    """

    __slots__ = ("_order", "_outcomes", "get", "size")

    def __init__(self, size: int) -> None:
        """`size` must be the same on every replica of a shard."""
        assert size > 0
        self.size = size
        self._outcomes: dict[str, Outcome[E]] = {}
        self._order: deque[str] = deque()
        self.get: Callable[[str], Outcome[E] | None] = self._outcomes.get
        """The first outcome of a command id, or None when it is not remembered."""

    def add(self, outcome: Outcome[E]) -> None:
        """Remember a first outcome; the oldest is forgotten when there are more than `size`.

        The command's id must not be remembered already.
        """
        order = self._order
        if len(order) >= self.size:
            del self._outcomes[order.popleft()]
        order.append(outcome.id)
        self._outcomes[outcome.id] = outcome
        assert len(self._outcomes) == len(order), "a command was decided twice"

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._order)
