"""The engines as the HTTP process sees them: their status, and the connections to them."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswer
from itertools import count
from typing import Any

import msgspec

from postjournal.adapters.process.channel import Channel
from postjournal.cluster.states import ReplicaState
from postjournal.cluster.status import ReplicaStatus, StatusRecord, decode_status
from services.replica import messages as m

log = logging.getLogger(__name__)

SCRAPE_TIMEOUT_S = 0.5


class ShardEngine:
    """One shard's engine. `status`: its latest status record, None before the first one."""

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self.status: ReplicaStatus | None = None
        self.state = m.EngineState(shard, None, "its engine has not started yet", {}, None)
        self._link: Channel | None = None
        self._numbers = count()
        self._waiting: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()

    @property
    def role(self) -> str:
        """The state of its latest status record."""
        return self.status.state if self.status else ReplicaState.RESTORING

    # --- for the event loop -------------------------------------------------------------------

    def connect(self, descriptor: int) -> None:
        """Use this connection from now on; requests over the previous one are refused."""
        if self._link is not None:
            self._link.close()
        self._refuse_waiting()
        self._link = Channel(
            socket.socket(fileno=descriptor),
            m.OverLinkToHttp,
            lambda message, _: self._on_answer(message),
            self._refuse_waiting,
        )

    def _refuse_waiting(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            _set(future, None)

    def _on_answer(self, message: m.OverLinkToHttp) -> None:
        with self._lock:
            future = self._waiting.pop(message.number, None)
        if future is not None:
            _set(future, message)

    # --- for the threads of HTTP requests -----------------------------------------------------

    def ask(self, query: m.Query, timeout_s: float) -> m.Answer | None:
        """The answer; None when there is none in time. `query.number` is set here."""
        answer: m.Answer | None = self._request(
            lambda number: msgspec.structs.replace(query, number=number), timeout_s
        )
        return answer

    def scrape(self) -> list[m.Family]:
        """Its metrics; none when it does not answer."""
        samples = self._request(m.Scrape, SCRAPE_TIMEOUT_S)
        return samples.families if samples is not None else []

    def _request(self, make: Callable[[int], msgspec.Struct], timeout_s: float) -> Any:
        link, number, future = self._link, next(self._numbers), Future[Any]()
        if link is None or link.is_closed:
            return None
        with self._lock:
            self._waiting[number] = future
        link.send_soon(make(number))
        try:
            return future.result(timeout_s)
        except NoAnswer:
            with self._lock:
                self._waiting.pop(number, None)
            return None


def _set(future: Future[Any], result: Any) -> None:
    if future.set_running_or_notify_cancel():
        future.set_result(result)


class Engines:
    """All engines of the replica. `parent`: the pid of its main process."""

    def __init__(self, shards: int, publish: Callable[[int, StatusRecord], None]) -> None:
        """`publish(shard, record)`: called with each status record, by the event loop."""
        self.all = [ShardEngine(shard) for shard in range(shards)]
        self.parent = 0
        self._publish = publish
        self._heard_s = time.monotonic()

    # --- for the event loop -------------------------------------------------------------------

    def on_report(self, report: m.Report) -> None:
        """An engine has made a status record."""
        record = decode_status(report.record)
        if isinstance(record, ReplicaStatus):
            self.all[report.shard].status = record
        if record is not None:
            self._publish(report.shard, record)

    def on_engines(self, message: m.Engines) -> None:
        """The state of all engines; one that has ended is published."""
        self.parent, self._heard_s = message.parent, time.monotonic()
        for state in message.engines:
            engine = self.all[state.shard]
            has_ended = engine.state.pid is not None and state.pid is None
            engine.state = state
            if has_ended and engine.status is not None:
                engine.status = msgspec.structs.replace(
                    engine.status,
                    pid=0,
                    state=ReplicaState.RESTORING,
                    error=state.ill,
                    last_end=state.last_end,
                    time=time.time_ns() // 1_000_000,
                )
                self._publish(state.shard, engine.status)

    # --- for the threads of HTTP requests -----------------------------------------------------

    @property
    def silent_s(self) -> float:
        """How long nothing was heard of the parent, which speaks once a second."""
        return time.monotonic() - self._heard_s

    def find(self, number: str) -> ShardEngine | None:
        return next((engine for engine in self.all if str(engine.shard) == number), None)
