"""What other threads of the process ask of a replica."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from postjournal.core import messages as m


@dataclass(frozen=True)
class Answer:
    """To a query; `seq` is that of the last command that it reflects (-1: none)."""

    result: object
    seq: int
    epoch: int
    error: str | None


class QueueInbox:
    """See `ports.Inbox`. Any thread may ask; the engine's thread polls."""

    def __init__(self) -> None:
        """An empty inbox."""
        self._queue: SimpleQueue[m.Message] = SimpleQueue()
        self._is_closed = False

    def ask(
        self, query: dict[str, str], *, linearizable: bool, min_seq: int = -1, timeout_ms: int = 0
    ) -> Future[Answer]:
        """Put a query (see `QueryRequested`); its answer comes with the future."""
        future: Future[Answer] = Future()
        self._queue.put(m.QueryRequested(future, query, linearizable, min_seq, timeout_ms))
        if self._is_closed:  # looked at after the put: `close` may have seen the queue before
            self._refuse_all()
        return future

    def ask_to_stop(self) -> None:
        """The replica resigns if it leads, then stops."""
        self._queue.put(m.StopRequested())

    def close(self) -> None:
        """Nobody polls any more: what waits, and whatever is asked from now on, is not_ready."""
        self._is_closed = True
        self._refuse_all()

    def _refuse_all(self) -> None:
        for message in self.poll():
            if isinstance(message, m.QueryRequested):
                self.reply(message.token, None, -1, 0, "not_ready")

    def poll(self) -> list[m.Message]:
        """Never waits."""
        messages: list[m.Message] = []
        with suppress(Empty):
            while True:
                messages.append(self._queue.get_nowait())
        return messages

    def reply(self, token: Any, result: object, seq: int, epoch: int, error: str | None) -> None:
        """Hand an answer to whoever waits; he may have gone."""
        if token.set_running_or_notify_cancel():
            token.set_result(Answer(result, seq, epoch, error))
