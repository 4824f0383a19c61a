"""Topics of the tests' Kafka: create, append, read."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import closing
from typing import Any

import msgspec
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from postjournal.adapters.kafka import metadata
from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.admin import ensure_topics, wait_for_kafka
from postjournal.adapters.kafka.topic_settings import TopicPlan
from postjournal.cluster.topics import Topics
from postjournal.config.settings import KafkaAccess
from postjournal.ledger import Ledger

ANSWER_S = 60.0
READ_S = 120.0
"""Timeouts of a request and of a whole read: far above what a busy machine needs."""


def make_topics(kafka: str, namespace: str, shards: int = 1) -> None:
    """All topics of the ledger, as the services create them."""
    application = Ledger()
    topics = Topics.of(namespace, application.sources, application.sinks)
    ensure_topics(wait_for_kafka(KafkaAccess(kafka), ANSWER_S), topics, TopicPlan(shards, 1))


def retrying_producer(kafka: str) -> Producer:
    """Writes each record exactly once, however slow the broker is."""
    settings = kafka_settings.gateway_producer(KafkaAccess(kafka))
    return Producer(settings | {"message.timeout.ms": 120_000})


def publish(
    kafka: str, topic: str, values: Iterable[bytes], partition: int = 0, key: bytes | None = None
) -> None:
    """Append `values` and wait until the broker has acknowledged all of them."""
    producer = retrying_producer(kafka)
    for value in values:
        producer.produce(topic, value, key, partition)
    assert producer.flush(ANSWER_S) == 0


def bounds(kafka: str, topic: str, partition: int = 0) -> tuple[int, int]:
    """The offset of the first record, and the one after the last."""
    with closing(Consumer(kafka_settings.follower_consumer(KafkaAccess(kafka)))) as consumer:
        return metadata.bounds(consumer, topic, partition, ANSWER_S)


def read(
    kafka: str, topic: str, count: int = 0, partition: int = 0, start: int = 0
) -> list[Message]:
    """Records from offset `start`: all that are there now, and `count` of them at least.

    The end is asked for once and on a connection of its own: a broker answers a connection's
    requests in order, so that the question would wait for the fetch before it, up to 500 ms.
    """
    _, end = bounds(kafka, topic, partition)
    wanted = max(end - start, count)
    found: list[Message] = []
    error = None
    settings = kafka_settings.follower_consumer(KafkaAccess(kafka)) | {"auto.offset.reset": "error"}
    with closing(Consumer(settings)) as consumer:
        consumer.assign([TopicPartition(topic, partition, start)])
        deadline = time.monotonic() + READ_S
        while len(found) < wanted:
            assert time.monotonic() < deadline, f"{topic}: {len(found)} of {wanted}, {error}"
            message = consumer.poll(0.2)
            if message is not None and (error := message.error()) is None:
                found.append(message)
    return found


def read_json(kafka: str, topic: str, count: int = 0, partition: int = 0) -> list[Any]:
    """The values of `read`, decoded."""
    messages = read(kafka, topic, count, partition)
    return [msgspec.json.decode(message.value() or b"") for message in messages]


def set_config(kafka: str, topic: str, name: str, value: str | None) -> None:
    """`value`: None for the broker's default."""
    operation = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
    entry = ConfigEntry(name, value, incremental_operation=operation)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": kafka})
    for changed in admin.incremental_alter_configs([resource]).values():
        changed.result(60)
