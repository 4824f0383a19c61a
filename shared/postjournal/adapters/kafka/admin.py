"""Topics: creating them with the right settings, checking those that exist, deleting records."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import monotonic, sleep

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.client import make_admin, translated
from postjournal.cluster.topics import Topics
from postjournal.config.settings import KafkaAccess
from postjournal.core.errors import JournalUnavailable, ShardCountMismatch, TopicMismatch

log = logging.getLogger(__name__)

KEEP_FOREVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}

BIG = {"max.message.bytes": "8388608"}
"""For the 8 MB of settings.journal_producer and settings.sink_producer."""

MINUTES_10 = str(10 * 60 * 1000)
WEEK = str(7 * 24 * 3600 * 1000)

ANSWER_S = 10.0
"""How long one request to Kafka may take."""

LOG_EVERY_S = 5.0

TRANSIENT = frozenset(
    {
        *(KafkaError._TIMED_OUT, KafkaError._TIMED_OUT_QUEUE, KafkaError.REQUEST_TIMED_OUT),
        *(KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE),
        *(KafkaError.NETWORK_EXCEPTION, KafkaError.BROKER_NOT_AVAILABLE),
        *(KafkaError.NOT_CONTROLLER, KafkaError.LEADER_NOT_AVAILABLE),
        KafkaError.THROTTLING_QUOTA_EXCEEDED,
        # All brokers of a cluster may not have booted yet.
        KafkaError.INVALID_REPLICATION_FACTOR,
    }
)
"""Why topics may be created later though not now; `KafkaError.retriable()` is false for all."""


def topic_settings(topics: Topics) -> dict[str, dict[str, str]]:
    """Topic → settings. Only the journal's are checked afterwards; the rest is the operator's."""
    return {
        **dict.fromkeys(topics.source_topics, KEEP_FOREVER),
        **dict.fromkeys(topics.sink_topics.values(), KEEP_FOREVER | BIG),
        topics.journal: KEEP_FOREVER | BIG,
        # Only closed segments are deleted, and by default a segment is closed after a week.
        topics.control: {
            "cleanup.policy": "delete",
            "retention.ms": MINUTES_10,
            "segment.ms": MINUTES_10,
        },
        topics.status: {"cleanup.policy": "delete", "retention.ms": WEEK},
    }


class KafkaProbe:
    """Whether a Kafka that starts answers yet."""

    def __init__(self, kafka: KafkaAccess) -> None:
        """Connects in the background."""
        # A fresh client for each attempt would pay for its threads; reconnects must stay quick.
        config = kafka_settings.admin(kafka) | {"reconnect.backoff.max.ms": 100}
        self._admin = make_admin(config)

    def answers(self) -> bool:
        """Whether a broker answers within 0.3 s."""
        with suppress(KafkaException):
            return bool(self._admin.list_topics(timeout=0.3).brokers)
        return False


def wait_for_kafka(
    kafka: KafkaAccess,
    timeout_s: float | None = None,
    is_stopping: Callable[[], bool] = lambda: False,
) -> AdminClient:
    """A client for the other functions here, of a Kafka that answers; logs while it waits.

    Raises `JournalUnavailable` after `timeout_s` seconds, if given, or once `is_stopping`.
    """
    errors: list[str] = []
    admin = make_admin(kafka_settings.admin(kafka), lambda error: errors.append(error.str()))
    retry = _Retry(f"Kafka at {kafka.bootstrap}", timeout_s, is_stopping)
    while True:
        try:
            admin.list_topics(timeout=2.0)
        except KafkaException:
            retry.wait(errors[-1] if errors else "no answer yet")
        else:
            return admin


def ensure_topics(
    admin: AdminClient,
    topics: Topics,
    shards: int,
    replication: int,
    *,
    timeout_s: float | None = None,
    is_stopping: Callable[[], bool] = lambda: False,
) -> None:
    """Create the topics that are missing and check the others; wait while Kafka cannot create any.

    Raises `ShardCountMismatch` or `TopicMismatch`, whose text names the fix; `JournalUnavailable`
    when Kafka does not answer, after `timeout_s` seconds of waiting, if given, or once
    `is_stopping`.
    """
    with translated("topics cannot be listed"):
        existing = admin.list_topics(timeout=ANSWER_S).topics
    settings = topic_settings(topics)
    missing = [
        NewTopic(
            topic, num_partitions=shards, replication_factor=replication, config=settings[topic]
        )
        for topic in topics.all
        if topic not in existing
    ]
    _create(admin, missing, _Retry("Kafka to create topics", timeout_s, is_stopping))
    counts = _partition_counts(admin, topics.all)
    wrong = {topic: count for topic, count in counts.items() if count != shards}
    if wrong:
        raise ShardCountMismatch(
            f"POSTJOURNAL_SHARDS is {shards}, but these topics have another number of "
            f"partitions: {wrong}. Set POSTJOURNAL_SHARDS to it; a running system's number of "
            "shards cannot be changed, since the key picks the shard"
        )
    _check_journal(admin, topics.journal)


class _Retry:
    """Paces attempts, logs every 5 s why they fail, and ends them."""

    def __init__(self, what: str, timeout_s: float | None, is_stopping: Callable[[], bool]) -> None:
        self._what, self._timeout_s, self._is_stopping = what, timeout_s, is_stopping
        self._started, self._next_log_s = monotonic(), 0.0

    def wait(self, why: str) -> None:
        """Raises `JournalUnavailable` when there is no time left."""
        waited = monotonic() - self._started
        if self._is_stopping() or (self._timeout_s is not None and waited >= self._timeout_s):
            raise JournalUnavailable(f"{self._what}: {why}")
        if waited >= self._next_log_s:
            log.warning("waiting for %s (%.0f s): %s", self._what, waited, why)
            self._next_log_s = waited + LOG_EVERY_S
        sleep(0.1)  # a broker that is starting refuses connections at once


def _create(admin: AdminClient, missing: list[NewTopic], retry: _Retry) -> None:
    if missing:
        log.info("creating topics: %s", ", ".join(sorted(new.topic for new in missing)))
    while missing:
        failures = _try_to_create(admin, missing)
        missing = [new for new in missing if new.topic in failures]
        if missing:
            retry.wait(failures[missing[0].topic])


def _try_to_create(admin: AdminClient, missing: list[NewTopic]) -> dict[str, str]:
    """Topic → why it cannot be created now. Raises `TopicMismatch` when it never will be."""
    failures: dict[str, str] = {}
    for topic, future in admin.create_topics(missing, operation_timeout=ANSWER_S).items():
        try:
            future.result()
        except KafkaException as exception:
            error: KafkaError = exception.args[0]
            if error.code() == KafkaError.TOPIC_ALREADY_EXISTS:  # created by another replica
                continue
            failures[topic] = f"cannot create {topic}: {error.str().rstrip('.')}"
            if error.code() not in TRANSIENT:
                raise TopicMismatch(failures[topic]) from exception
            if error.code() == KafkaError.INVALID_REPLICATION_FACTOR:
                failures[topic] += ". Start the missing brokers, or change POSTJOURNAL_REPLICATION"
    return failures


def _partition_counts(admin: AdminClient, wanted: Iterable[str]) -> dict[str, int]:
    """Waits until every topic is known and has leaders: creation is asynchronous."""
    deadline = monotonic() + ANSWER_S
    while True:
        with translated("topics cannot be listed"):
            known = admin.list_topics(timeout=ANSWER_S).topics
        ready = {
            topic: len(known[topic].partitions)
            for topic in wanted
            if topic in known
            and known[topic].partitions
            and all(partition.leader >= 0 for partition in known[topic].partitions.values())
        }
        missing = [topic for topic in wanted if topic not in ready]
        if not missing:
            return ready
        if monotonic() >= deadline:
            raise JournalUnavailable(f"topics without a leader: {missing}")
        sleep(0.05)


def _check_journal(admin: AdminClient, topic: str) -> None:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    with translated(f"the settings of {topic} cannot be read"):
        found = admin.describe_configs([resource])[resource].result(timeout=ANSWER_S)
    for name, wanted in KEEP_FOREVER.items():
        actual = found[name].value
        if actual != wanted:
            raise TopicMismatch(
                f"{topic} has {name}={actual}, but a journal needs {name}={wanted}: records would "
                f"be lost. Fix it with: kafka-configs.sh --alter --entity-type topics "
                f"--entity-name {topic} --add-config {name}={wanted}"
            )


def create_topic(admin: AdminClient, topic: str) -> None:
    """Create a topic with one partition and one copy, and wait until the partition has a leader.

    Raises `JournalUnavailable`.
    """
    with translated(f"{topic} cannot be created"):
        admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(ANSWER_S)
    # A broker leads a partition some time after the metadata name it: ask it for the end.
    latest = {TopicPartition(topic, 0): OffsetSpec.latest()}  # type: ignore[no-untyped-call]
    deadline = monotonic() + ANSWER_S
    while monotonic() < deadline:
        with suppress(KafkaException):
            for answer in admin.list_offsets(latest).values():
                answer.result(ANSWER_S)
            return
        sleep(0.05)
    raise JournalUnavailable(f"{topic} has no leader after {ANSWER_S:g} s")


def delete_topic(admin: AdminClient, topic: str) -> None:
    """Raises `JournalUnavailable` when Kafka does not delete the topic."""
    with translated(f"{topic} cannot be deleted"):
        admin.delete_topics([topic])[topic].result(ANSWER_S)


class JournalTrimmer:
    """Deletes the beginning of a journal partition, for good: Kafka's DeleteRecords.

    Safe to use from many threads.
    """

    def __init__(self, kafka: KafkaAccess, topic: str) -> None:
        """Does not connect yet."""
        self._topic = topic
        self._config = kafka_settings.admin(kafka)

    def trim(self, shard: int, before: int) -> None:
        """Delete the records with offsets below `before`. Raises `JournalUnavailable`."""
        partition = TopicPartition(self._topic, shard, before)
        admin = make_admin(self._config)
        with translated(f"{self._topic}/{shard} is not trimmed"):
            answers = admin.delete_records([partition], request_timeout=ANSWER_S)
            answers[partition].result(ANSWER_S)
