"""What is published and what is not yet, as the journal tells."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass
class Mark:
    """The highest `published` of a sink, and the journal record that has it."""

    next_seq: int = 0
    offset: int = -1


class Unpublished:
    """The outputs of one sink from its mark on: what a snapshot holds of them.

    Bounded as the engine bounds what may be unpublished.
    """

    def __init__(self, first_seq: int) -> None:
        """Empty."""
        self._first_seq = first_seq
        self._values: deque[bytes] = deque()

    def add(self, outputs: Iterable[bytes]) -> None:
        """The next outputs."""
        self._values += outputs

    def forget(self, mark: int) -> None:
        """Outputs before `mark` are published."""
        while self._first_seq < mark and self._values:
            self._values.popleft()
            self._first_seq += 1

    @property
    def values(self) -> list[bytes]:
        """All of them, in order."""
        return list(self._values)
