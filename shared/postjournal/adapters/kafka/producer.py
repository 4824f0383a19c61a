"""A producer for all records but those of the engine, which has `shard_log` and `sink`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message

from postjournal.adapters.kafka import metadata
from postjournal.adapters.kafka.client import REPORT_MS, make_producer, reason, warm_up
from postjournal.adapters.kafka.settings import Config
from postjournal.core.errors import JournalUnavailable

log = logging.getLogger(__name__)

NEVER_SENT = frozenset(
    {
        KafkaError._QUEUE_FULL,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
    }
)
"""Errors after which the record is certainly not in the log. After any other one it may be: also
one that was dropped from the queue, where it may have waited to be sent again.
"""


class DeliveryFailed(NamedTuple):
    """A record was not acknowledged. `is_certain`: it is not in the log and never will be."""

    reason: str
    is_certain: bool


OnDelivery = Callable[[int, DeliveryFailed | None], None]
"""Called with the record's offset, or with why it was not acknowledged."""


class RecordProducer:
    """Sends records and reports what becomes of them. Safe to use from many threads.

    Reports are delivered by `poll` and `flush`. `on_error` is called with a text, and whether the
    producer is broken and must be renewed; without `on_error`, it is renewed at once.
    """

    def __init__(
        self,
        config: Config,
        on_error: Callable[[str, bool], None] | None = None,
        *,
        is_watched: bool = False,
    ) -> None:
        """Connects in the background, so make it after any fork.

        `config`: of `adapters.kafka.settings`. `is_watched`: `poll`, `flush` and `close` raise
        `BrokersLost`; only for a producer that is polled at least now and then.
        """
        self._config, self._on_error = config, on_error
        self._report_ms = REPORT_MS if is_watched else None
        self._producer = self._make()

    def _make(self) -> Any:
        on_error = self._forward if self._on_error is not None else None
        return make_producer(self._config, on_error, self._report_ms)

    def _forward(self, error: KafkaError) -> None:
        assert self._on_error is not None
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._on_error(error.str(), False)

    def connect(self, topic: str) -> None:
        """Connect and learn the topic's leaders now, rather than at the first record."""
        warm_up(self._producer, topic)

    def send(
        self,
        topic: str,
        value: bytes,
        *,
        partition: int,
        key: bytes | str | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
        on_delivery: OnDelivery | None = None,
    ) -> None:
        """Queue a record. Raises `JournalUnavailable` when it cannot be: then it is never sent."""
        more: dict[str, Any] = {"headers": [*headers]} if headers else {}
        if on_delivery is not None:
            more["on_delivery"] = partial(_report, on_delivery)
        try:
            self._producer.produce(topic, value, key=key, partition=partition, **more)
        except (BufferError, KafkaException) as error:
            raise JournalUnavailable(f"{topic}: the client refused the record: {error}") from error

    def send_all(
        self,
        topic: str,
        values: Iterable[bytes],
        *,
        partition: int,
        key: bytes,
        on_delivery: OnDelivery,
    ) -> int:
        """Queue records in one call; returns how many. `on_delivery`: of the last one only."""
        records: list[dict[str, Any]] = [{"value": value, "key": key} for value in values]
        if records:
            records[-1]["callback"] = partial(_report, on_delivery)
        return int(self._producer.produce_batch(topic, records, partition=partition))

    def queued(self) -> int:
        """How many records wait for their acknowledgement."""
        return len(self._producer)

    def partition_count(self, topic: str, timeout_s: float) -> int:
        return metadata.partition_count(self._producer, topic, timeout_s)

    def poll(self, timeout_s: float) -> None:
        """Deliver reports; waits up to `timeout_s` seconds for the first."""
        self._serve(self._producer.poll, timeout_s)

    def flush(self, timeout_s: float) -> int:
        """Wait up to `timeout_s` seconds for acknowledgements; how many are missing then."""
        return self._serve(self._producer.flush, timeout_s)

    def _serve(self, call: Callable[[float], int], timeout_s: float) -> int:
        """confluent-kafka raises a fatal error there, and once, instead of passing it on."""
        try:
            return call(timeout_s)
        except KafkaException as error:
            if self._on_error is not None:
                self._on_error(reason(error), True)
            else:
                log.error("a Kafka producer has failed and is renewed: %s", reason(error))
                self.renew()
            return len(self._producer)

    def renew(self) -> None:
        """Go on with a new client; records that the old one holds are dropped and reported.

        The old one is not closed, since other threads may be using it.
        """
        old, self._producer = self._producer, self._make()
        old.purge()
        with suppress(KafkaException):
            old.flush(1.0)

    def drain(self, timeout_s: float = 0.0) -> None:
        """Wait up to `timeout_s` seconds for acknowledgements, then drop what is still queued."""
        with suppress(KafkaException):
            self._producer.flush(timeout_s)
        self._producer.purge()
        with suppress(KafkaException):
            self._producer.flush(0.1)

    def close(self) -> None:
        """Drop what is queued and end the client; no other thread may be using it."""
        self.drain()
        with suppress(KafkaException):
            self._producer.close()


def _report(on_delivery: OnDelivery, error: KafkaError | None, message: Message) -> None:
    if error is None:
        on_delivery(message.offset() or 0, None)
    else:
        on_delivery(-1, DeliveryFailed(error.str(), error.code() in NEVER_SENT))
