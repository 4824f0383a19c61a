"""Requests of the process's other threads to a replica."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from postjournal.adapters.process.wakeup import Wakeup
from postjournal.core import messages as m


@dataclass(frozen=True)
class Answer:
    """The answer to a query.

    `result`: the application's, None with an `error`; `seq`: of the last command that it reflects
    (-1: none); `epoch`: the leadership's number; `error`: why there is no result.
    """

    result: object
    seq: int
    epoch: int
    error: str | None


class QueueInbox:
    """The `Inbox` port. Any thread may ask; the engine's thread polls.

    `is_asked_to_stop`: since `ask_to_stop`, also when it is no longer polled.
    """

    def __init__(self, wakeup: Wakeup) -> None:
        """`wakeup` is set by each request."""
        self._wakeup = wakeup
        self._queue: SimpleQueue[m.Message] = SimpleQueue()
        self._is_closed = False
        self.is_asked_to_stop = False

    def ask(
        self, query: dict[str, str], *, linearizable: bool, min_seq: int = -1, timeout_ms: int = 0
    ) -> Future[Answer]:
        """Enqueue a query (see `QueryRequested`); the future gets its `Answer`."""
        future: Future[Answer] = Future()
        self._put(m.QueryRequested(future, query, linearizable, min_seq, timeout_ms))
        if self._is_closed:  # checked after the put: `close` may have emptied the queue before it
            self._refuse_all()
        return future

    def ask_to_stop(self) -> None:
        """Request that the replica resigns, if it leads, and stops."""
        self.is_asked_to_stop = True
        self._put(m.StopRequested())

    def _put(self, message: m.Message) -> None:
        self._queue.put(message)
        self._wakeup.set()

    def close(self) -> None:
        """Answer `not_ready` to all present and future queries: the engine polls no more."""
        self._is_closed = True
        self._refuse_all()

    def _refuse_all(self) -> None:
        for message in self.poll():
            if isinstance(message, m.QueryRequested):
                self.reply(message.token, None, -1, 0, "not_ready")

    def poll(self) -> list[m.Message]:
        """The requests since the last call. Never waits."""
        messages: list[m.Message] = []
        while not self._queue.empty():
            with suppress(Empty):  # another thread may refuse them at the same time
                messages.append(self._queue.get_nowait())
        return messages

    def reply(self, token: Any, result: object, seq: int, epoch: int, error: str | None) -> None:
        """Answer a query, unless its caller has given up. `token`: of the QueryRequested."""
        if token.set_running_or_notify_cancel():
            token.set_result(Answer(result, seq, epoch, error))
