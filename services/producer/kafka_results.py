"""Waiting for results: one thread follows the results topic for all requests."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Event, Thread
from time import monotonic
from typing import Protocol

import msgspec
from confluent_kafka import Message

from postjournal.adapters.outage import Outage
from postjournal.core.errors import JournalUnavailable, ShardCountMismatch
from postjournal.core.records import UNREADABLE
from services.producer.metrics import Metrics
from services.producer.ports import TooBusy, Unavailable
from services.server import Halt

log = logging.getLogger(__name__)

MAX_WAITING = 200
"""Requests; each occupies a thread of the server, which has more than that."""

IDLE_S = 5.0
BULK_RECORDS = 10_000
"""When nobody has waited for `IDLE_S` and so many records came in that time, the topic is not
fetched until somebody waits: following a bulk load would cost a good part of a core. To start
again takes some ms, at worst half a second; so a topic that is quiet is followed all the time.
"""

POLL_S, WAKE_S, RETRY_S = 0.2, 2.0, 0.1


class _Result(msgspec.Struct):
    id: str
    seq: int


_decode = msgspec.json.Decoder(_Result).decode


class ResultsTopic(Protocol):
    """What the follower needs of a `TopicReader`."""

    @property
    def trouble(self) -> str:
        """Why nothing comes."""

    def open(self) -> bool:
        """True when everything appended from now on will come."""

    def poll(self, timeout_s: float) -> list[Message]:
        """The next records."""

    def pause(self) -> None:
        """Fetch nothing."""

    def skip_to_end(self) -> None:
        """Fetch again, from the end of now. Raises `JournalUnavailable`."""

    def close(self) -> None:
        """Done."""


class _Waiting:
    """One request."""

    def __init__(self) -> None:
        self._came = Event()
        self._value: bytes | None = None

    def give(self, value: bytes | None) -> None:
        self._value = value
        self._came.set()

    def wait(self, timeout_s: float) -> bytes | None:
        """See `Expectation`."""
        self._came.wait(timeout_s)
        return self._value


class ResultFollower:
    """See `ResultWaiter`. Safe to use from many threads."""

    is_offered = True

    def __init__(self, topic: ResultsTopic, metrics: Metrics, halt: Halt) -> None:
        """Starts its thread. `halt` is told of a configuration that cannot work."""
        self._topic, self._metrics, self._halt = topic, metrics, halt
        self._outage = Outage("following the results", log)
        self._changed = Condition()
        self._waiting: defaultdict[tuple[int, str], list[_Waiting]] = defaultdict(list)
        self._count = 0
        self._is_open, self._is_awake, self._is_closing = False, True, False
        self._idle_since = monotonic()
        self._idle_records = 0
        self._last_seq: dict[int, int] = {}
        self._thread = Thread(target=self._run, name="results", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """See `ResultWaiter`."""
        if self._is_open:
            return ""
        return self._topic.trouble or "the results are not followed yet"

    @contextmanager
    def expect(self, shard: int, command_id: str) -> Iterator[_Waiting]:
        """See `ResultWaiter`. Two requests may wait for one id: the first result is for both."""
        key, waiting = (shard, command_id), _Waiting()
        self._register(key, waiting)
        try:
            yield waiting
        finally:
            self._unregister(key, waiting)

    def release_all(self) -> None:
        """Let everybody who waits go without a result: the server is about to stop."""
        with self._changed:
            self._is_closing = True
            for requests in self._waiting.values():
                for waiting in requests:
                    waiting.give(None)
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread."""
        self.release_all()
        self._thread.join(WAKE_S)

    def _register(self, key: tuple[int, str], waiting: _Waiting) -> None:
        with self._changed:
            if self._count >= MAX_WAITING:
                raise TooBusy(f"{self._count} requests wait for their results")
            if self._is_closing or not self._is_open:
                raise Unavailable(self.trouble or "the gateway is stopping")
            self._waiting[key].append(waiting)
            self._count += 1
            self._metrics.waiting.set(self._count)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_awake or self._is_closing, WAKE_S)
            is_awake = self._is_awake
        if not is_awake:
            self._unregister(key, waiting)
            raise Unavailable("Kafka did not tell the end of the results in time")

    def _unregister(self, key: tuple[int, str], waiting: _Waiting) -> None:
        with self._changed:
            self._waiting[key].remove(waiting)
            if not self._waiting[key]:
                del self._waiting[key]
            self._count -= 1
            self._metrics.waiting.set(self._count)

    # --- the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._is_closing:
                self._turn()
        except ShardCountMismatch as error:
            self._halt(error)
        finally:
            self._topic.close()

    def _turn(self) -> None:
        if not self._topic.open():
            self._is_open = False
            return
        if not self._is_open:
            self._is_open = True
            log.info("following the results")
        if not self._is_awake and not self._wake():
            self._topic.poll(0)  # serves the client's callbacks
            return
        messages = self._topic.poll(POLL_S)
        if self._count:
            self._give(messages)
        else:
            self._doze_in_bulk(len(messages))

    def _doze_in_bulk(self, records: int) -> None:
        self._idle_records += records
        if monotonic() - self._idle_since < IDLE_S:
            return
        with self._changed:
            if self._idle_records >= BULK_RECORDS and self._count == 0:
                log.info("nobody waits and many results come: not following them for now")
                self._is_awake = False
                self._topic.pause()
        self._start_idling()

    def _start_idling(self) -> None:
        self._idle_since, self._idle_records = monotonic(), 0

    def _wake(self) -> bool:
        """True when everything appended from now on will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._count or self._is_closing, 1.0)
            if not self._count or self._is_closing:
                return False
        try:
            self._topic.skip_to_end()
        except JournalUnavailable as error:
            self._outage.begin(str(error))
            return False
        self._outage.end()
        self._start_idling()
        with self._changed:
            self._is_awake = True
            self._changed.notify_all()
        return True

    def _give(self, messages: list[Message]) -> None:
        self._start_idling()
        for message in messages:
            value, shard = message.value() or b"", message.partition() or 0
            try:
                result = _decode(value)
            except UNREADABLE as error:
                log.warning("a record of the results is none and is skipped: %s", error)
                continue
            if result.seq <= self._last_seq.get(shard, -1):
                continue  # a deposed leader's repetition
            self._last_seq[shard] = result.seq
            with self._changed:
                for waiting in self._waiting.get((shard, result.id), ()):
                    waiting.give(value)


class NoResults:
    """For applications without a results sink: requests get their 202 at once."""

    is_offered = False
    trouble = ""

    @contextmanager
    def expect(self, shard: int, command_id: str) -> Iterator[_Waiting]:
        """Never called, since nothing is offered."""
        raise Unavailable(f"no result of {command_id} in shard {shard}: there are no results")
        yield  # makes it a generator

    def release_all(self) -> None:
        """Nobody waits."""

    def close(self) -> None:
        """Nothing to close."""
