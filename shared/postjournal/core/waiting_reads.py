"""Reads of a state that this replica has not reached: kept until it has, or until they are late."""

from __future__ import annotations

from postjournal.core.messages import QueryAsked


class WaitingReads:
    """Falsy while nobody waits, which is what a busy replica looks at."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        """Nobody waits."""
        self._waiting: list[tuple[int, QueryAsked]] = []  # until when, ms

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def add(self, asked: QueryAsked, now_ms: int) -> None:
        """Keep it for as long as it is patient."""
        self._waiting.append((now_ms + asked.patience_ms, asked))

    def take_ripe(self, next_seq: int) -> list[QueryAsked]:
        """Those that can be answered when the state accounts for the commands before `next_seq`."""
        ripe = [asked for _, asked in self._waiting if asked.min_seq < next_seq]
        if ripe:
            self._waiting = [each for each in self._waiting if each[1].min_seq >= next_seq]
        return ripe

    def take_late(self, now_ms: int) -> list[QueryAsked]:
        """Those whose patience is over."""
        late = [asked for until_ms, asked in self._waiting if until_ms <= now_ms]
        if late:
            self._waiting = [each for each in self._waiting if each[0] > now_ms]
        return late

    def take_all(self) -> list[QueryAsked]:
        """Everybody."""
        waiting, self._waiting = self._waiting, []
        return [asked for _, asked in waiting]
