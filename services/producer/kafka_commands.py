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
from postjournal.adapters.process.pulse import Pulse
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
from services.server import OnFatal

log = logging.getLogger(__name__)

MAX_UNACKNOWLEDGED = 100_000
"""Commands: ten of the largest batches, and well below the limit of the producer's queue."""

ACKNOWLEDGEMENT_TIMEOUT_S = 6.0
"""A little more than the message.timeout.ms of `settings.gateway_producer`."""

PROBE_EVERY_S, RETRY_EVERY_S, PROBE_TIMEOUT_S = 1.0, 0.1, 2.0

RENEW_S = 10.0
"""A client that no broker has answered for this time is renewed.

It may have lost all its brokers: see `client.watched`. By then every command has timed out and its
request has been answered.
"""

RENEW_PAUSE_S = 1.0
"""The shortest time between two renewals: Kafka may refuse each new client, too."""

LOG_EVERY_S = 10.0
"""How often a producer that goes on failing is logged."""

OUTCOME_LABELS = {Appended: "accepted", NotAppended: "not_accepted", Unknown: "unknown"}


class _Pending:
    """The outcomes of one request's commands; None while an outcome is unknown."""

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
            missing = Unknown(f"Kafka did not acknowledge the command within {timeout_s:.0f} s")
            return [missing if outcome is None else outcome for outcome in self.outcomes]


class KafkaCommandLog:
    """The `CommandLog` port. Safe to use from many threads."""

    def __init__(
        self, kafka: KafkaAccess, topic: str, shards: int, metrics: Metrics, on_fatal: OnFatal
    ) -> None:
        """Starts its threads and connects in the background: create it after any fork.

        `topic`: of the commands; `shards`: its partitions; `on_fatal` is called, by a thread, when
        the topic has another number of partitions.
        """
        self._topic, self._shards, self._metrics = topic, shards, metrics
        self._on_fatal = on_fatal
        self._outage = Outage(f"Kafka at {kafka.bootstrap}, topic {topic}", log)
        self._producer = RecordProducer(kafka_settings.gateway_producer(kafka), self._on_error)
        self._lock = Lock()
        self._unacknowledged = 0
        metrics.unacknowledged.set_function(lambda: self._unacknowledged)
        self._delivered_at, self._answered_at = 0.0, monotonic()
        self._logged_at = -LOG_EVERY_S  # when a failure of the producer was logged
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
        outcomes = pending.wait(ACKNOWLEDGEMENT_TIMEOUT_S)
        self._metrics.append_seconds.observe(monotonic() - started)
        for kind, count in Counter(map(type, outcomes)).items():
            self._metrics.commands.labels(OUTCOME_LABELS[kind]).inc(count)
        return outcomes

    def close(self) -> None:
        """Wait up to 2 s for acknowledgements; commands still queued by then are never sent."""
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
        """`produce_batch` would save a microsecond per record, but drops the headers."""
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
        """Serve the delivery reports, whatever the threads of the requests are doing."""
        renewed_at = -RENEW_PAUSE_S
        with Pulse("commands_deliver") as pulse:
            while not self._closing.is_set():
                self._producer.poll(0.1)
                if self._broken.is_set() and monotonic() - renewed_at >= RENEW_PAUSE_S:
                    renewed_at = monotonic()
                    self._broken.clear()
                    self._producer.renew()
                pulse.beat()

    # --- whether Kafka is available ---------------------------------------------------------

    def _on_error(self, reason: str, is_fatal: bool) -> None:
        """A fatal error means that the idempotent producer accepts no more records."""
        if is_fatal:
            self._broken.set()
            if monotonic() - self._logged_at >= LOG_EVERY_S:
                self._logged_at = monotonic()
                log.error("the command producer failed and is renewed: %s", reason)
        else:
            self._note_unavailable("Kafka is unavailable")
            self._probe_now.set()

    def _watch(self) -> None:
        with Pulse("commands_watch") as pulse:
            while not self._closing.is_set():
                try:
                    self._probe()
                except ShardCountMismatch as error:
                    self._on_fatal(error)
                    return
                is_available = self._unavailable_reason is None
                self._probe_now.wait(PROBE_EVERY_S if is_available else RETRY_EVERY_S)
                self._probe_now.clear()
                pulse.beat()

    def _probe(self) -> None:
        try:
            found = self._producer.partition_count(self._topic, PROBE_TIMEOUT_S)
        except JournalUnavailable as error:
            if monotonic() - self._delivered_at > PROBE_TIMEOUT_S:  # otherwise it is only slow
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
