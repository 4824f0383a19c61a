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
from postjournal.adapters.kafka.topic_settings import (
    TopicPlan,
    TopicProblem,
    created_with,
    problems_of,
    requirements,
)
from postjournal.cluster.topics import Topics
from postjournal.config.settings import KafkaAccess
from postjournal.core.errors import JournalUnavailable, ShardCountMismatch, TopicMismatch

log = logging.getLogger(__name__)

ANSWER_S = 10.0
"""How long one request to Kafka may take."""

LOG_EVERY_S = 5.0

RESTART = "restart a replica, which creates it"
REASSIGN = "kafka-reassign-partitions.sh, or set POSTJOURNAL_REPLICATION"

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
    plan: TopicPlan,
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
    required = requirements(topics, plan)
    missing = [
        NewTopic(
            topic,
            num_partitions=plan.shards,
            replication_factor=plan.replication,
            config=created_with(required[topic]),
        )
        for topic in topics.all
        if topic not in existing
    ]
    _create(admin, missing, _Retry("Kafka to create topics", timeout_s, is_stopping))
    counts = _partition_counts(admin, topics.all)
    wrong = {topic: count for topic, count in counts.items() if count != plan.shards}
    if wrong:
        raise ShardCountMismatch(
            f"POSTJOURNAL_SHARDS is {plan.shards}, but these topics have another number of "
            f"partitions: {wrong}. Set POSTJOURNAL_SHARDS to it; a running system's number of "
            "shards cannot be changed, since the key picks the shard"
        )
    _check_settings(admin, topics, plan)


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


def check_topics(admin: AdminClient, topics: Topics, plan: TopicPlan) -> list[TopicProblem]:
    """What is wrong with the topics of a running system.

    Raises `JournalUnavailable` when Kafka does not answer, or does not allow it.
    """
    with translated("topics cannot be listed"):
        known = admin.list_topics(timeout=ANSWER_S).topics
    found: list[TopicProblem] = []
    existing: list[str] = []
    for topic in topics.all:
        if topic not in known or known[topic].error is not None:
            found.append(_layout_problem(topic, "topic", "missing", "one", RESTART))
            continue
        existing.append(topic)
        partitions = known[topic].partitions.values()
        if len(partitions) != plan.shards:
            found.append(
                _layout_problem(
                    topic, "partitions", len(partitions), plan.shards, "set POSTJOURNAL_SHARDS"
                )
            )
        copies = min((len(partition.replicas) for partition in partitions), default=0)
        if copies < plan.replication:
            found.append(_layout_problem(topic, "replicas", copies, plan.replication, REASSIGN))
    return found + _setting_problems(admin, topics, plan, existing)


def _layout_problem(topic: str, what: str, found: object, wanted: object, fix: str) -> TopicProblem:
    why = "the services are set so" if what != "topic" else "the system uses it"
    return TopicProblem(topic, what, str(found), str(wanted), why, fix)


def _setting_problems(
    admin: AdminClient, topics: Topics, plan: TopicPlan, of: Iterable[str]
) -> list[TopicProblem]:
    required = requirements(topics, plan)
    resources = {ConfigResource(ResourceType.TOPIC, topic): topic for topic in of}
    if not resources:
        return []
    found: list[TopicProblem] = []
    for resource, answer in admin.describe_configs(list(resources)).items():
        topic = resources[resource]
        with translated(f"the settings of {topic} cannot be read"):
            entries = answer.result(timeout=ANSWER_S)
        values = {name: entry.value for name, entry in entries.items() if entry.value is not None}
        found += problems_of(topic, required[topic], values)
    return found


def _check_settings(admin: AdminClient, topics: Topics, plan: TopicPlan) -> None:
    """Raises `TopicMismatch` for what would lose data; other problems are logged."""
    of = (*topics.source_topics, topics.journal, *topics.sink_topics.values())
    for problem in _setting_problems(admin, topics, plan, of):
        if problem.is_fatal:
            raise TopicMismatch(str(problem))
        log.warning("%s", problem)


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
