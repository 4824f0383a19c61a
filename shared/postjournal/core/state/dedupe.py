"""The window of command ids already decided, with their first outcomes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
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
        order, outcomes, command_id = self._order, self._outcomes, outcome.id
        if len(order) == self.size:
            del outcomes[order.popleft()]
        order.append(command_id)
        outcomes[command_id] = outcome

    def add_all(self, outcomes: Sequence[Outcome[E]]) -> None:
        """As `add` of each in turn, but faster for many."""
        order, remembered = self._order, self._outcomes
        outcomes = outcomes[-self.size :]
        # First forget: an id may come again that was forgotten on the way.
        for _ in range(len(order) + len(outcomes) - self.size):
            del remembered[order.popleft()]
        ids = [outcome.id for outcome in outcomes]
        order += ids
        remembered.update(zip(ids, outcomes, strict=True))
        assert len(remembered) == len(order), "a command was decided twice"

    def outcomes(self) -> Iterator[Outcome[E]]:
        """What is remembered, the oldest first."""
        return map(self._outcomes.__getitem__, self._order)

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._order)
