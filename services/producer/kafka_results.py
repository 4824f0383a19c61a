"""The `ResultWaiter` port on Kafka: one thread follows the results topic for all requests."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Event
from time import monotonic
from typing import Protocol

import msgspec

from postjournal.adapters.kafka.client import TopicRecord
from postjournal.adapters.kafka.follower import FollowedTopic, Follower
from postjournal.adapters.outage import Outage
from postjournal.core.errors import JournalUnavailable
from postjournal.core.records import UNREADABLE
from services.producer.metrics import Metrics
from services.producer.ports import TooBusy, Unavailable
from services.server import OnFatal

log = logging.getLogger(__name__)

MAX_WAITING = 200
"""Requests; each occupies a thread of the server, which has more threads than that."""

IDLE_S = 5.0
BULK_RECORDS = 10_000
"""The topic is paused when no request has waited for `IDLE_S` and this many records came in that
time, until a request waits: following a bulk load would cost a good part of a core. Resuming takes
some ms, at worst half a second, so a topic with few records is followed all the time.
"""

RESUME_TIMEOUT_S = 2.0


class _Result(msgspec.Struct):
    id: str
    seq: int


_decode = msgspec.json.Decoder(_Result).decode


class ResultsTopic(FollowedTopic, Protocol):
    """What the follower needs of a `TopicReader`."""

    def pause(self) -> None:
        """Stop fetching until `skip_to_end`."""

    def skip_to_end(self) -> None:
        """Continue fetching at the current end. Raises `JournalUnavailable`."""


class _Waiter:
    """The `Expectation` of one request."""

    def __init__(self) -> None:
        self._is_over = Event()
        self._value: bytes | None = None

    def end(self, value: bytes | None) -> None:
        self._value = value
        self._is_over.set()

    def wait(self, timeout_s: float) -> bytes | None:
        self._is_over.wait(timeout_s)
        return self._value


class ResultFollower:
    """The `ResultWaiter` port. Safe to use from many threads."""

    is_offered = True

    def __init__(self, topic: ResultsTopic, metrics: Metrics, on_fatal: OnFatal) -> None:
        """Starts its thread, which calls `on_fatal` with a configuration error."""
        self._topic, self._metrics = topic, metrics
        self._outage = Outage("results topic", log)
        self._changed = Condition()
        self._waiters: defaultdict[tuple[int, str], list[_Waiter]] = defaultdict(list)
        self._count = 0
        self._is_paused = self._is_closing = False
        self._idle_since = monotonic()
        self._idle_records = 0
        self._last_seq: dict[int, int] = {}
        self._follower = Follower(
            "results", topic, self._apply, needs_history=False, poll=self._poll
        )
        self._follower.start(on_fatal)

    @property
    def unavailable_reason(self) -> str | None:
        return self._follower.unavailable_reason

    @contextmanager
    def expect(self, shard: int, command_id: str) -> Iterator[_Waiter]:
        """Two requests may wait for the same id; both get the first result."""
        key, waiter = (shard, command_id), _Waiter()
        self._register(key, waiter)
        try:
            yield waiter
        finally:
            self._unregister(key, waiter)

    def release_all(self) -> None:
        """Answer all waiting requests without a result, because the server stops."""
        self._follower.stop()
        with self._changed:
            self._is_closing = True
            for waiters in self._waiters.values():
                for waiter in waiters:
                    waiter.end(None)
            self._changed.notify_all()

    def close(self) -> None:
        self.release_all()
        self._follower.close()

    def _register(self, key: tuple[int, str], waiter: _Waiter) -> None:
        with self._changed:
            if self._count >= MAX_WAITING:
                raise TooBusy(f"{self._count} requests are waiting for results")
            reason = self.unavailable_reason
            if self._is_closing or reason is not None:
                raise Unavailable(reason or "the gateway is stopping")
            self._waiters[key].append(waiter)
            self._count += 1
            self._metrics.waiting.set(self._count)
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: not self._is_paused or self._is_closing, RESUME_TIMEOUT_S
            )
            is_paused = self._is_paused
        if is_paused:
            self._unregister(key, waiter)
            raise Unavailable("Kafka did not return the end of the results topic in time")

    def _unregister(self, key: tuple[int, str], waiter: _Waiter) -> None:
        with self._changed:
            self._waiters[key].remove(waiter)
            if not self._waiters[key]:
                del self._waiters[key]
            self._count -= 1
            self._metrics.waiting.set(self._count)

    # --- the follower's thread --------------------------------------------------------------

    def _poll(self, timeout_s: float) -> list[TopicRecord]:
        if self._is_paused and not self._resume():
            return self._topic.poll(0)  # serves the client's callbacks
        return self._topic.poll(timeout_s)

    def _apply(self, records: list[TopicRecord]) -> None:
        if self._is_paused:
            return
        if self._count:
            self._answer(records)
        else:
            self._pause_in_bulk(len(records))

    def _pause_in_bulk(self, records: int) -> None:
        self._idle_records += records
        if monotonic() - self._idle_since < IDLE_S:
            return
        with self._changed:
            if self._idle_records >= BULK_RECORDS and self._count == 0:
                log.info("no waiters; pausing the results consumer")
                self._is_paused = True
                self._topic.pause()
        self._start_idling()

    def _start_idling(self) -> None:
        self._idle_since, self._idle_records = monotonic(), 0

    def _resume(self) -> bool:
        """Wait up to 1 s for a request; True when every result from now on will be returned."""
        with self._changed:
            self._changed.wait_for(lambda: self._count or self._is_closing, 1.0)
            if not self._count or self._is_closing:
                return False
        try:
            self._topic.skip_to_end()
        except JournalUnavailable as error:
            self._outage.start(str(error))
            return False
        self._outage.end()
        self._start_idling()
        with self._changed:
            self._is_paused = False
            self._changed.notify_all()
        return True

    def _answer(self, records: list[TopicRecord]) -> None:
        self._start_idling()
        for record in records:
            try:
                result = _decode(record.value)
            except UNREADABLE as error:
                log.warning("skipping malformed record in the results topic: %s", error)
                continue
            if result.seq <= self._last_seq.get(record.partition, -1):
                continue  # published a second time by a deposed leader
            self._last_seq[record.partition] = result.seq
            with self._changed:
                for waiter in self._waiters.get((record.partition, result.id), ()):
                    waiter.end(record.value)


class NoResults:
    """The `ResultWaiter` of an application without a results sink: no request can wait."""

    is_offered = False
    unavailable_reason = None

    @contextmanager
    def expect(self, shard: int, command_id: str) -> Iterator[_Waiter]:
        """Never called, because `is_offered` is False."""
        raise Unavailable(f"no result of {command_id} in shard {shard}: there is no results sink")
        yield  # makes it a generator

    def release_all(self) -> None:
        pass

    def close(self) -> None:
        pass
