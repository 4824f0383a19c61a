"""The window of command ids already decided, with their first outcomes."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from postjournal.core.records import Outcome

E = TypeVar("E")


class DedupeWindow(Generic[E]):
    """The last `size` decided commands, rejections included. Part of the replicated state.

    A repeat does not move its command to the front: what is remembered depends only on the
    order of first decisions.
    """

    __slots__ = ("_order", "_outcomes", "size")

    def __init__(self, size: int) -> None:
        """`size` must be the same on every replica of a shard."""
        assert size > 0
        self.size = size
        self._outcomes: dict[str, Outcome[E]] = {}
        self._order: deque[str] = deque()

    def get(self, command_id: str) -> Outcome[E] | None:
        """The first outcome of the command, or None when it is not remembered."""
        return self._outcomes.get(command_id)

    def add(self, outcome: Outcome[E]) -> None:
        """Remember a first outcome; the oldest is forgotten when there are more than `size`."""
        command_id = outcome.id
        assert command_id not in self._outcomes
        self._outcomes[command_id] = outcome
        self._order.append(command_id)
        if len(self._order) > self.size:
            del self._outcomes[self._order.popleft()]

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._order)
