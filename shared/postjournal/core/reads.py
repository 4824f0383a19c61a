"""Reads of one replica: answered, refused, or kept until the state that they ask for is there."""

from __future__ import annotations

from typing import Any, Protocol

from postjournal.core import messages as m
from postjournal.core.fold import JournalState
from postjournal.core.leadership import Leadership
from postjournal.core.roles import Role
from postjournal.core.state.state_machine import StateMachine


class Readable(Protocol):
    """What is looked at of a replica, or of a reader."""

    role: Role
    journal: JournalState
    machine: StateMachine[Any, Any, Any]

    @property
    def leadership(self) -> Leadership[Any, Any, Any] | None:
        """What only a leader has."""


class Reads:
    """Falsy while nobody waits for a state, which is what a busy replica looks at."""

    __slots__ = ("_of", "_waiting")

    def __init__(self, of: Readable) -> None:
        """Nobody waits."""
        self._of = of
        self._waiting: list[tuple[int, m.QueryRequested]] = []  # until when, ms

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def on_query(self, asked: m.QueryRequested, now_ms: int) -> list[m.Effect]:
        """Answer it, or keep it for as long as it is patient."""
        of = self._of
        if of.role in (Role.RESTORING, Role.CATCHING_UP):
            return [self._reply(asked, error="not_ready")]
        if asked.linearizable and of.leadership is None:
            return [self._reply(asked, error="not_leader")]
        if asked.min_seq >= of.journal.next_seq:
            self._waiting.append((now_ms + asked.timeout_ms, asked))
            return []
        return self._answer(asked)

    def settle(self, now_ms: int) -> list[m.Effect]:
        """Answer those whose state has come; refuse those whose patience is over."""
        waiting, self._waiting = self._waiting, []
        effects: list[m.Effect] = []
        for until_ms, asked in waiting:
            if asked.min_seq < self._of.journal.next_seq:
                effects += self.on_query(asked, now_ms)  # the role may be another by this time
            elif until_ms <= now_ms:
                effects.append(self._reply(asked, error="behind"))
            else:
                self._waiting.append((until_ms, asked))
        return effects

    def refuse_all(self) -> list[m.Effect]:
        """This replica ends."""
        waiting, self._waiting = self._waiting, []
        return [self._reply(asked, error="not_ready") for _, asked in waiting]

    def _answer(self, asked: m.QueryRequested) -> list[m.Effect]:
        leadership = self._of.leadership
        result, error = self._of.machine.query(asked.query)
        if leadership is None or error is not None:
            return [self._reply(asked, result, error)]
        return leadership.answer_later(asked.token, result, linearizable=asked.linearizable)

    def _reply(
        self, asked: m.QueryRequested, result: object = None, error: str | None = None
    ) -> m.Reply:
        journal = self._of.journal
        return m.Reply(asked.token, result, journal.next_seq - 1, journal.epoch, error)
