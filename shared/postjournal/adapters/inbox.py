"""What other threads of the process ask of a replica."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
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

    def ask(
        self, query: dict[str, str], *, linearizable: bool, min_seq: int = -1, patience_ms: int = 0
    ) -> Future[Answer]:
        """Put a query (see `QueryAsked`); its answer comes with the future."""
        future: Future[Answer] = Future()
        self._queue.put(m.QueryAsked(future, query, linearizable, min_seq, patience_ms))
        return future

    def ask_to_stop(self) -> None:
        """The replica resigns if it leads, then stops."""
        self._queue.put(m.StopAsked())

    def poll(self) -> list[m.Message]:
        """Never waits."""
        messages: list[m.Message] = []
        while not self._queue.empty():
            messages.append(self._queue.get())
        return messages

    def reply(self, token: Any, result: object, seq: int, epoch: int, error: str | None) -> None:
        """Hand an answer to whoever waits; he may have gone."""
        if token.set_running_or_notify_cancel():
            token.set_result(Answer(result, seq, epoch, error))
