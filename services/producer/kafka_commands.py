"""The command log on Kafka: one idempotent producer for the whole process."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from functools import partial
from threading import Condition, Event, Lock, Thread
from time import monotonic
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.metadata import check_partition_count, partition_count
from postjournal.adapters.outage import Outage
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
"""Commands; ten of the largest batches, and well below the producer's own queue."""

ANSWER_S = 6.0
"""A little more than kafka_settings.gateway_producer's message.timeout.ms."""

PROBE_S, PROBE_WHEN_AWAY_S, PROBE_TIMEOUT_S = 1.0, 0.1, 2.0

REPLACE_S = 10.0
"""A client that no broker has answered for so long is replaced by a new one.

librdkafka forgets all brokers, and those of `bootstrap.servers` too, when a broker that has just
started tells it of none (its issue 5301). By then every command has timed out and been told of.
"""

NEVER_SENT = frozenset(
    {
        KafkaError._PURGE_QUEUE,
        KafkaError._QUEUE_FULL,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
    }
)
"""Errors that leave no doubt. With any other the record may be in the log."""


NAMES = {Appended: "accepted", NotAppended: "not_accepted", Unknown: "unknown"}


class _Pending:
    """What has been told of the commands of one request."""

    def __init__(self, count: int) -> None:
        self.outcomes: list[Outcome | None] = [None] * count
        self._missing = count
        self._told = Condition()

    def tell(self, index: int, outcome: Outcome) -> None:
        with self._told:
            self.outcomes[index] = outcome
            self._missing -= 1
            if self._missing == 0:
                self._told.notify()

    def wait(self, timeout_s: float) -> list[Outcome]:
        with self._told:
            self._told.wait_for(lambda: self._missing == 0, timeout_s)
            silent = Unknown(f"Kafka did not acknowledge it within {timeout_s:.0f} s")
            return [silent if outcome is None else outcome for outcome in self.outcomes]


class KafkaCommandLog:
    """See `CommandLog`. Safe to use from many threads."""

    def __init__(
        self, bootstrap: str, topic: str, shards: int, metrics: Metrics, halt: Halt
    ) -> None:
        """Starts its threads and connects in the background, so make it after any fork.

        `halt` is told, by a thread, of a configuration that cannot work.
        """
        self._topic, self._shards, self._metrics, self._halt = topic, shards, metrics, halt
        self._outage = Outage(f"Kafka at {bootstrap}, topic {topic}", log)
        self._settings = kafka_settings.gateway_producer(bootstrap) | {
            "log_level": 2,
            "error_cb": self._on_error,
        }
        self._producer = Producer(self._settings)
        self._lock = Lock()
        self._unacknowledged = 0
        metrics.unacknowledged.set_function(lambda: self._unacknowledged)
        self._delivered_at, self._answered_at = 0.0, monotonic()
        self._trouble = "Kafka has not answered yet"
        self._look_again, self._closing, self._broken = Event(), Event(), Event()
        self._threads = [
            Thread(target=work, name=f"commands{work.__name__}", daemon=True)
            for work in (self._deliver, self._watch)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def trouble(self) -> str:
        """See `CommandLog`."""
        return self._trouble

    def append(self, records: Sequence[Record], headers: Headers = ()) -> list[Outcome]:
        """See `CommandLog`."""
        if self._trouble:
            raise Unavailable(self._trouble)
        self._reserve(len(records))
        started, pending = monotonic(), _Pending(len(records))
        for index, (key, shard, value) in enumerate(records):
            record = {"value": value, "key": key, "partition": shard, "headers": [*headers]}
            self._produce(record, index, pending)
        outcomes = pending.wait(ANSWER_S)
        self._metrics.append_seconds.observe(monotonic() - started)
        for kind, count in Counter(map(type, outcomes)).items():
            self._metrics.commands.labels(NAMES[kind]).inc(count)
        return outcomes

    def close(self) -> None:
        """Wait a moment for acknowledgements; what is still queued then is never sent."""
        self._closing.set()
        self._look_again.set()
        self._producer.flush(2.0)
        self._producer.purge()
        self._producer.flush(0.1)
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

    def _produce(self, record: dict[str, Any], index: int, pending: _Pending) -> None:
        """One by one: `produce_batch` drops headers, and saves a microsecond a record."""
        report = partial(self._on_delivery, pending, index)
        try:
            self._producer.produce(self._topic, **record, on_delivery=report)
        except (BufferError, KafkaException) as refusal:
            self._release(1)
            pending.tell(index, NotAppended(f"the client did not take it: {refusal}"))

    def _on_delivery(
        self, pending: _Pending, index: int, error: KafkaError | None, message: Message
    ) -> None:
        self._release(1)
        if error is None:
            self._delivered_at = monotonic()
            pending.tell(index, Appended(message.offset() or 0))
        elif error.code() in NEVER_SENT:
            pending.tell(index, NotAppended(error.str()))
        else:
            pending.tell(index, Unknown(error.str()))

    def _deliver(self) -> None:
        """Reports come on this thread, whatever the requests are doing."""
        while not self._closing.is_set():
            self._producer.poll(0.1)
            if self._broken.is_set():
                self._replace_producer()

    def _replace_producer(self) -> None:
        """An idempotent producer that has lost its history accepts nothing any more."""
        old, self._producer = self._producer, Producer(self._settings)
        self._broken.clear()
        old.purge()
        old.flush(1.0)

    # --- knowing whether Kafka is there -----------------------------------------------------

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            log.error("the producer is broken and gets replaced: %s", error.str())
            self._broken.set()
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._note_trouble("Kafka is away")
            self._look_again.set()

    def _watch(self) -> None:
        while not self._closing.is_set():
            try:
                self._look()
            except ShardCountMismatch as error:
                self._halt(error)
                return
            self._look_again.wait(PROBE_WHEN_AWAY_S if self._trouble else PROBE_S)
            self._look_again.clear()

    def _look(self) -> None:
        """Raises `ShardCountMismatch`."""
        try:
            found = partition_count(self._producer, self._topic, PROBE_TIMEOUT_S)
        except JournalUnavailable as error:
            if monotonic() - self._delivered_at > PROBE_TIMEOUT_S:  # else it is only slow
                self._note_trouble(str(error))
            if monotonic() - max(self._delivered_at, self._answered_at) > REPLACE_S:
                self._answered_at = monotonic()
                self._broken.set()
            return
        self._answered_at = monotonic()
        check_partition_count(self._topic, found, self._shards)
        if found:
            self._trouble = ""
            self._outage.end()
            self._metrics.kafka_up.set(1)
        else:
            self._note_trouble("the topic does not exist yet; a replica creates it")

    def _note_trouble(self, why: str) -> None:
        self._trouble = why
        self._outage.begin(why)
        self._metrics.kafka_up.set(0)
