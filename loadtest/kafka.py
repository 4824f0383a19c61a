"""Every Kafka client of the load tests: made with the project's settings, and used directly.

The only module here that imports confluent_kafka.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

import confluent_kafka
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # type: ignore[attr-defined]

from loadtest.waiting import wait_for
from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.admin import ensure_topics, wait_for_kafka
from postjournal.adapters.kafka.topic_settings import TopicPlan
from postjournal.cli.errors import OperationFailed
from postjournal.cluster.topics import Topics
from postjournal.config.settings import FSYNC, KafkaAccess

REQUEST_TIMEOUT_S = 10.0
POLL_TIMEOUT_S = 0.2
MAX_RECORDS = 5_000
QUIET = {"log_level": 2}
"""librdkafka's own lines would mix with the tables; failures are reported by exceptions."""


def client_versions() -> tuple[str, str]:
    """The versions of confluent-kafka and of librdkafka."""
    return str(confluent_kafka.version()), str(confluent_kafka.libversion()[0])


def command_producer(
    kafka: KafkaAccess, topic: str, settings: Mapping[str, object] | None = None
) -> Producer:
    """The gateway's kind of producer, connected, so that the first command is not delayed.

    `settings` overrides librdkafka's settings. Raises `OperationFailed`.
    """
    config = kafka_settings.gateway_producer(kafka) | QUIET | dict(settings or {})
    producer = Producer(config)
    try:
        producer.list_topics(topic, timeout=REQUEST_TIMEOUT_S)
    except KafkaException as error:
        raise OperationFailed(f"Kafka at {kafka.bootstrap} does not answer: {error}") from error
    return producer


def create_topics(kafka: KafkaAccess, topics: Topics, shards: int) -> None:
    """Create the topics of a system whose replicas have not been started, without replication."""
    plan = TopicPlan(shards, replication=1, fsync=FSYNC.read() is not False)
    ensure_topics(wait_for_kafka(kafka), topics, plan)


def follower(kafka: KafkaAccess) -> Consumer:
    """A consumer without a group; partitions are assigned to it explicitly."""
    return Consumer(kafka_settings.follower_consumer(kafka) | QUIET)


def end_offset(consumer: Consumer, topic: str, partition: int) -> int:
    """Request the partition's end offset from the broker. Raises `OperationFailed`."""
    try:
        _, end = consumer.get_watermark_offsets(
            TopicPartition(topic, partition), timeout=REQUEST_TIMEOUT_S, cached=False
        )
    except KafkaException as error:
        raise OperationFailed(f"no end offset of {topic}/{partition}: {error}") from error
    return int(end)


def follow_from_end(
    consumer: Consumer, topics: Sequence[str], partitions: int
) -> dict[tuple[str, int], int]:
    """Assign all partitions of `topics` from their present ends: (topic, partition) → offset."""
    starts = {
        (topic, partition): end_offset(consumer, topic, partition)
        for topic in topics
        for partition in range(partitions)
    }
    consumer.assign([TopicPartition(*key, offset) for key, offset in starts.items()])
    return starts


def read_all(kafka: KafkaAccess, topic: str, partition: int) -> Iterator[tuple[int, bytes]]:
    """(Kafka's timestamp in ms, value) of every record that the partition holds now."""
    consumer = follower(kafka)
    try:
        end = end_offset(consumer, topic, partition)
        consumer.assign([TopicPartition(topic, partition, 0)])
        next_offset, deadline = 0, time.monotonic() + REQUEST_TIMEOUT_S
        while next_offset < end:
            for message in consumer.consume(MAX_RECORDS, POLL_TIMEOUT_S):
                if message.error() is None:
                    next_offset = (message.offset() or 0) + 1
                    deadline = time.monotonic() + REQUEST_TIMEOUT_S
                    yield message.timestamp()[1], message.value() or b""
            if time.monotonic() > deadline:
                raise OperationFailed(f"{topic} cannot be read beyond offset {next_offset}")
    finally:
        consumer.close()


@contextmanager
def temporary_topic(kafka: KafkaAccess, prefix: str) -> Iterator[str]:
    """A new topic with one partition, whose name begins with `prefix`; deleted at the end."""
    topic = f"{prefix}-{uuid.uuid4().hex[:8]}"
    admin = AdminClient(kafka_settings.admin(kafka))
    _check(admin.create_topics([NewTopic(topic, 1, 1)])[topic])
    try:
        wait_for(
            lambda: _has_leader(admin, topic),
            lambda: f"{topic} has no leader",
            REQUEST_TIMEOUT_S,
            poll_s=0.05,
        )
        yield topic
    finally:
        _check(admin.delete_topics([topic])[topic])


def _has_leader(admin: AdminClient, topic: str) -> bool:
    """Metadata names a leader some time before the broker leads, so request the end offset."""
    latest = {TopicPartition(topic, 0): OffsetSpec.latest()}  # type: ignore[no-untyped-call]
    with contextlib.suppress(KafkaException):
        for offset in admin.list_offsets(latest).values():
            offset.result(REQUEST_TIMEOUT_S)
        return True
    return False


def _check(future: Future[None]) -> None:
    try:
        future.result(REQUEST_TIMEOUT_S)
    except KafkaException as error:
        raise OperationFailed(f"Kafka rejected a temporary topic: {error}") from error
