"""The `CommandLog` port on Kafka: one idempotent producer for the whole process."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from functools import partial
from threading import Condition, Event, Lock, Thread
from time import monotonic

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.metadata import check_partition_count
from postjournal.adapters.kafka.producer import DeliveryFailed, RecordProducer
from postjournal.adapters.outage import Outage
from postjournal.config.settings import KafkaAccess
from postjournal.core.errors import JournalUnavailable, ShardCountMismatch
from services.producer.metrics import Metrics
from services.producer.ports import (
    Appended,
    Headers,
    NotAppended,
    Outcome,
    Record,
    TooBusy,
    Unavailable,
    Unknown,
)
from services.server import Halt

log = logging.getLogger(__name__)

MAX_UNACKNOWLEDGED = 100_000
"""In commands: ten of the largest batches, and well below the producer's own queue."""

ANSWER_S = 6.0
"""A little more than the message.timeout.ms of `settings.gateway_producer`."""

PROBE_EVERY_S, RETRY_EVERY_S, PROBE_TIMEOUT_S = 1.0, 0.1, 2.0

RENEW_S = 10.0
"""A client that no broker has answered for this time is renewed.

It may have lost all its brokers: see `client.watched`. By then every command has timed out and its
request has been answered.
"""

NAMES = {Appended: "accepted", NotAppended: "not_accepted", Unknown: "unknown"}


class _Pending:
    """The outcomes of one request's commands, as far as they are known."""

    def __init__(self, count: int) -> None:
        self.outcomes: list[Outcome | None] = [None] * count
        self._missing = count
        self._complete = Condition()

    def set(self, index: int, outcome: Outcome) -> None:
        with self._complete:
            self.outcomes[index] = outcome
            self._missing -= 1
            if self._missing == 0:
                self._complete.notify()

    def wait(self, timeout_s: float) -> list[Outcome]:
        with self._complete:
            self._complete.wait_for(lambda: self._missing == 0, timeout_s)
            missing = Unknown(f"Kafka did not acknowledge it within {timeout_s:.0f} s")
            return [missing if outcome is None else outcome for outcome in self.outcomes]


class KafkaCommandLog:
    """The `CommandLog` port. Safe to use from many threads."""

    def __init__(
        self, kafka: KafkaAccess, topic: str, shards: int, metrics: Metrics, halt: Halt
    ) -> None:
        """Starts its threads and connects in the background, so make it after any fork.

        `halt` is called, by a thread, with a configuration error.
        """
        self._topic, self._shards, self._metrics, self._halt = topic, shards, metrics, halt
        self._outage = Outage(f"Kafka at {kafka.bootstrap}, topic {topic}", log)
        self._producer = RecordProducer(kafka_settings.gateway_producer(kafka), self._on_error)
        self._lock = Lock()
        self._unacknowledged = 0
        metrics.unacknowledged.set_function(lambda: self._unacknowledged)
        self._delivered_at, self._answered_at = 0.0, monotonic()
        self._unavailable_reason: str | None = "Kafka has not answered yet"
        self._probe_now, self._closing, self._broken = Event(), Event(), Event()
        self._threads = [
            Thread(target=work, name=f"commands{work.__name__}", daemon=True)
            for work in (self._deliver, self._watch)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def unavailable_reason(self) -> str | None:
        return self._unavailable_reason

    def append(self, records: Sequence[Record], headers: Headers = ()) -> list[Outcome]:
        if self._unavailable_reason is not None:
            raise Unavailable(self._unavailable_reason)
        self._reserve(len(records))
        started, pending = monotonic(), _Pending(len(records))
        for index, record in enumerate(records):
            self._send(record, headers, index, pending)
        outcomes = pending.wait(ANSWER_S)
        self._metrics.append_seconds.observe(monotonic() - started)
        for kind, count in Counter(map(type, outcomes)).items():
            self._metrics.commands.labels(NAMES[kind]).inc(count)
        return outcomes

    def close(self) -> None:
        """Wait 2 s for acknowledgements; commands that are still queued then are never sent."""
        self._closing.set()
        self._probe_now.set()
        self._producer.drain(2.0)
        for thread in self._threads:
            thread.join(PROBE_TIMEOUT_S)

    # --- appending --------------------------------------------------------------------------

    def _reserve(self, count: int) -> None:
        with self._lock:
            if self._unacknowledged + count > MAX_UNACKNOWLEDGED:
                raise TooBusy(f"{self._unacknowledged} commands are not yet acknowledged")
            self._unacknowledged += count

    def _release(self, count: int) -> None:
        with self._lock:
            self._unacknowledged -= count

    def _send(self, record: Record, headers: Headers, index: int, pending: _Pending) -> None:
        """One by one: `produce_batch` drops headers, and saves a microsecond a record."""
        try:
            self._producer.send(
                self._topic,
                record.value,
                key=record.key,
                partition=record.shard,
                headers=headers,
                on_delivery=partial(self._on_delivery, pending, index),
            )
        except JournalUnavailable as refusal:
            self._release(1)
            pending.set(index, NotAppended(str(refusal)))

    def _on_delivery(
        self, pending: _Pending, index: int, offset: int, failure: DeliveryFailed | None
    ) -> None:
        self._release(1)
        if failure is None:
            self._delivered_at = monotonic()
            pending.set(index, Appended(offset))
        elif failure.is_certain:
            pending.set(index, NotAppended(failure.reason))
        else:
            pending.set(index, Unknown(failure.reason))

    def _deliver(self) -> None:
        """Reports are delivered by this thread, whatever the requests are doing."""
        while not self._closing.is_set():
            self._producer.poll(0.1)
            if self._broken.is_set():
                self._broken.clear()
                self._producer.renew()

    # --- whether Kafka is available ---------------------------------------------------------

    def _on_error(self, reason: str, is_fatal: bool) -> None:
        """An idempotent producer that has lost its history accepts no more records."""
        if is_fatal:
            log.error("the producer has failed and is renewed: %s", reason)
            self._broken.set()
        else:
            self._note_unavailable("Kafka is unavailable")
            self._probe_now.set()

    def _watch(self) -> None:
        while not self._closing.is_set():
            try:
                self._probe()
            except ShardCountMismatch as error:
                self._halt(error)
                return
            is_available = self._unavailable_reason is None
            self._probe_now.wait(PROBE_EVERY_S if is_available else RETRY_EVERY_S)
            self._probe_now.clear()

    def _probe(self) -> None:
        """Raises `ShardCountMismatch`."""
        try:
            found = self._producer.partition_count(self._topic, PROBE_TIMEOUT_S)
        except JournalUnavailable as error:
            if monotonic() - self._delivered_at > PROBE_TIMEOUT_S:  # else it is only slow
                self._note_unavailable(str(error))
            if monotonic() - max(self._delivered_at, self._answered_at) > RENEW_S:
                self._answered_at = monotonic()
                self._broken.set()
            return
        self._answered_at = monotonic()
        check_partition_count(self._topic, found, self._shards)
        if found:
            self._unavailable_reason = None
            self._outage.end()
            self._metrics.kafka_up.set(1)
        else:
            self._note_unavailable("the topic does not exist yet; a replica creates it")

    def _note_unavailable(self, reason: str) -> None:
        self._unavailable_reason = reason
        self._outage.start(reason)
        self._metrics.kafka_up.set(0)
