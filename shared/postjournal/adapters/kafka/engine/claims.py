"""Appending claims to the journal."""

from __future__ import annotations

import logging
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.client import discard, make_producer, serve, warm_up
from postjournal.adapters.kafka.engine.lasting_errors import DROPPED, LastingErrors
from postjournal.config.settings import KafkaAccess

log = logging.getLogger(__name__)

CLAIM = "a claim was refused"


class ClaimWriter:
    """A producer that loses claims rather than append them late."""

    def __init__(self, kafka: KafkaAccess, topic: str, shard: int, errors: LastingErrors) -> None:
        """Waits for the connection, up to 1 s, so that a claim finds it.

        `errors`: gets what Kafka answers when it refuses a claim.
        """
        self._kafka, self._topic, self._shard = kafka, topic, shard
        self._errors = errors
        self._producer = make_producer(kafka_settings.claim_producer(kafka))
        warm_up(self._producer, topic)

    def append(self, value: bytes) -> None:
        """Append it now or never."""
        report = partial(self._on_delivery, self._producer)
        try:
            self._producer.produce(self._topic, value, partition=self._shard, on_delivery=report)
        except KafkaException as error:  # the topic's error as of the last refusal
            self._refuse(KafkaError(error.args[0].code()).str())
        except BufferError as error:
            self._refuse(str(error))

    def purge(self) -> None:
        """Drop what has not been sent."""
        self._producer.purge(in_queue=True, in_flight=False)

    @property
    def is_unacknowledged(self) -> bool:
        """Whether `serve` is to be called again soon."""
        return len(self._producer) > 0

    def serve(self) -> None:
        """Serve delivery reports. Raises `BrokersLost`."""
        error = serve(self._producer)
        if error is not None:
            log.warning("%s/%d: a new producer for claims: %s", self._topic, self._shard, error)
            discard(self._producer)
            self._producer = make_producer(kafka_settings.claim_producer(self._kafka))

    def close(self) -> None:
        discard(self._producer)

    def _on_delivery(self, producer: Producer, error: KafkaError | None, message: Message) -> None:
        del message
        if producer is not self._producer:
            return
        if error is None:
            self._errors.end(CLAIM)
        elif error.code() not in DROPPED:
            self._refuse(error.str())

    def _refuse(self, error: str) -> None:
        """The replica repeats its claim."""
        if self._errors.add(CLAIM, error):
            log.warning(
                "%s/%d: Kafka has refused a claim: %s; until it accepts one, this replica cannot "
                "lead",
                *(self._topic, self._shard, error),
            )
