"""Which outputs are published and which are not yet, according to the journal."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass
class Mark:
    """The highest `published` of a sink, and the offset of the journal record that has it."""

    next_seq: int = 0
    offset: int = -1


class Unpublished:
    """The outputs of one sink from its mark on, as a snapshot holds them.

    Bounded because the engine bounds its unpublished outputs.
    """

    def __init__(self, first_seq: int) -> None:
        self._first_seq = first_seq
        self._values: deque[bytes] = deque()

    def add(self, outputs: Iterable[bytes]) -> None:
        self._values += outputs

    def forget(self, mark: int) -> None:
        """Drop the outputs before `mark`: they are published."""
        while self._first_seq < mark and self._values:
            self._values.popleft()
            self._first_seq += 1

    @property
    def values(self) -> list[bytes]:
        return list(self._values)
