"""Reads of one replica: answered, refused, or kept until the state that they ask for is there."""

from __future__ import annotations

from typing import Any, Protocol

from postjournal.core import messages as m
from postjournal.core.fold import JournalState
from postjournal.core.leadership import Leadership
from postjournal.core.roles import ReadError, Role
from postjournal.core.state.state_machine import StateMachine


class Readable(Protocol):
    """What `Reads` needs of a replica or a reader."""

    role: Role
    journal: JournalState
    machine: StateMachine[Any, Any, Any]

    @property
    def leadership(self) -> Leadership[Any, Any, Any] | None:
        """None unless it leads."""


class Reads:
    """The queries of one replica. Falsy while none waits, which a busy replica checks per step."""

    __slots__ = ("_replica", "_waiting")

    def __init__(self, replica: Readable) -> None:
        self._replica = replica
        self._waiting: list[tuple[int, m.QueryRequested]] = []  # deadline in ms, query

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def deadline_ms(self) -> int | None:
        """When the first waiting query times out; None: none waits."""
        return min([deadline_ms for deadline_ms, _ in self._waiting], default=None)

    def on_query(self, query: m.QueryRequested, now_ms: int) -> list[m.Effect]:
        """Answer or refuse the query, or keep it until the state is there or it times out."""
        replica = self._replica
        if replica.role in (Role.RESTORING, Role.CATCHING_UP):
            return [self._reply(query, error=ReadError.NOT_READY)]
        if query.linearizable and replica.leadership is None:
            return [self._reply(query, error=ReadError.NOT_LEADER)]
        if query.min_seq >= replica.journal.next_seq:
            self._waiting.append((now_ms + query.timeout_ms, query))
            return []
        return self._answer(query)

    def settle(self, now_ms: int) -> list[m.Effect]:
        """Answer queries whose state is there now; refuse those that have timed out."""
        waiting, self._waiting = self._waiting, []
        effects: list[m.Effect] = []
        for deadline_ms, query in waiting:
            if query.min_seq < self._replica.journal.next_seq:
                effects += self.on_query(query, now_ms)  # the role may have changed
            elif deadline_ms <= now_ms:
                effects.append(self._reply(query, error=ReadError.BEHIND))
            else:
                self._waiting.append((deadline_ms, query))
        return effects

    def refuse_all(self) -> list[m.Effect]:
        """Refuse every waiting query: this incarnation ends."""
        waiting, self._waiting = self._waiting, []
        return [self._reply(query, error=ReadError.NOT_READY) for _, query in waiting]

    def _answer(self, query: m.QueryRequested) -> list[m.Effect]:
        leadership = self._replica.leadership
        result, error = self._replica.machine.query(query.query)
        if leadership is None or error is not None:
            return [self._reply(query, result, error)]
        return leadership.answer_later(query.token, result, linearizable=query.linearizable)

    def _reply(
        self, query: m.QueryRequested, result: object = None, error: str | None = None
    ) -> m.Reply:
        journal = self._replica.journal
        return m.Reply(query.token, result, journal.next_seq - 1, journal.epoch, error)
