"""Topics that exist for a moment only."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # type: ignore[attr-defined]

from loadtest.bench_system import Stage
from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.cli.errors import OperationFailed

ANSWER_S = 10.0


@contextmanager
def scratch_topic(stage: Stage, name: str) -> Iterator[str]:
    """A fresh topic with one partition, deleted at the end."""
    topic = stage.topics.topic(f"{name}-{uuid.uuid4().hex[:8]}")
    admin = AdminClient(kafka_settings.admin(stage.bootstrap))
    _settle(admin.create_topics([NewTopic(topic, 1, 1)])[topic])
    try:
        _wait_for_leader(admin, topic)
        yield topic
    finally:
        _settle(admin.delete_topics([topic])[topic])


def _wait_for_leader(admin: AdminClient, topic: str) -> None:
    """A broker leads a partition some time after metadata says so: ask it for the end."""
    latest = {TopicPartition(topic, 0): OffsetSpec.latest()}  # type: ignore[no-untyped-call]
    give_up = time.monotonic() + ANSWER_S
    while time.monotonic() < give_up:
        with contextlib.suppress(KafkaException):
            for asked in admin.list_offsets(latest).values():
                asked.result(ANSWER_S)
            return
        time.sleep(0.05)
    raise OperationFailed(f"{topic} has no leader after {ANSWER_S:g} s")


def _settle(future: Future[None]) -> None:
    try:
        future.result(ANSWER_S)
    except KafkaException as error:
        raise OperationFailed(f"Kafka refuses a topic for the bench: {error}") from error
