"""Creates the topics with the right settings, and checks those that exist."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from time import monotonic, sleep

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.cluster.topics import Topics
from postjournal.core.errors import JournalUnavailable, ShardCountMismatch, TopicMismatch

log = logging.getLogger(__name__)

FOR_EVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}

BIG = {"max.message.bytes": "8388608"}
"""For the 8 MB of kafka_settings.journal_producer and sink_producer."""

MINUTES_10 = str(10 * 60 * 1000)
WEEK = str(7 * 24 * 3600 * 1000)

ANSWER_S = 10.0
"""How long one request to Kafka may take."""

PASSING = frozenset(
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
"""Why topics may not be created now but later; `KafkaError.retriable()` tells it of none."""


def topic_settings(topics: Topics) -> dict[str, dict[str, str]]:
    """Topic → settings. Only the journal's are checked afterwards; the rest is the operator's."""
    return {
        **dict.fromkeys(topics.source_topics, FOR_EVER),
        **dict.fromkeys(topics.sink_topics.values(), FOR_EVER | BIG),
        topics.journal: FOR_EVER | BIG,
        # Only segments that are closed are deleted, and one is closed after a week by default.
        topics.control: {
            "cleanup.policy": "delete",
            "retention.ms": MINUTES_10,
            "segment.ms": MINUTES_10,
        },
        topics.status: {"cleanup.policy": "delete", "retention.ms": WEEK},
    }


def wait_for_kafka(
    bootstrap: str,
    give_up_s: float | None = None,
    is_stopping: Callable[[], bool] = lambda: False,
) -> AdminClient:
    """A client of a Kafka that answers. Waits, saying so once in a while.

    Raises JournalUnavailable after `give_up_s` seconds, if given, or once `is_stopping`.
    """
    troubles: list[str] = []
    settings = kafka_settings.admin(bootstrap)
    admin = AdminClient(settings | {"error_cb": lambda error: troubles.append(error.str())})
    patience = _Patience(f"Kafka at {bootstrap}", give_up_s, is_stopping)
    while True:
        try:
            admin.list_topics(timeout=2.0)
        except KafkaException:
            patience.wait(troubles[-1] if troubles else "no answer yet")
        else:
            return admin


def ensure_topics(
    admin: AdminClient,
    topics: Topics,
    shards: int,
    replication: int,
    *,
    give_up_s: float | None = None,
    is_stopping: Callable[[], bool] = lambda: False,
) -> None:
    """Create what is missing, check what is there. Waits while Kafka cannot create topics now.

    Raises `ShardCountMismatch` or `TopicMismatch`, saying what to do; KafkaException;
    JournalUnavailable, also after `give_up_s` seconds of waiting, if given, or once `is_stopping`.
    """
    have = admin.list_topics(timeout=ANSWER_S).topics
    settings = topic_settings(topics)
    missing = [
        NewTopic(
            topic, num_partitions=shards, replication_factor=replication, config=settings[topic]
        )
        for topic in topics.all
        if topic not in have
    ]
    _create(admin, missing, _Patience("Kafka to create topics", give_up_s, is_stopping))
    counts = _partition_counts(admin, topics.all)
    wrong = {topic: count for topic, count in counts.items() if count != shards}
    if wrong:
        raise ShardCountMismatch(
            f"POSTJOURNAL_SHARDS is {shards}, but these topics have another number of "
            f"partitions: {wrong}. Set POSTJOURNAL_SHARDS to it; a running system's number of "
            "shards cannot be changed, since the key picks the shard"
        )
    _check_journal(admin, topics.journal)


class _Patience:
    def __init__(self, what: str, give_up_s: float | None, is_stopping: Callable[[], bool]) -> None:
        self._what, self._give_up_s, self._is_stopping = what, give_up_s, is_stopping
        self._started, self._said = monotonic(), 0.0

    def wait(self, why: str) -> None:
        """A moment; raises JournalUnavailable when there is no more waiting."""
        waited = monotonic() - self._started
        if self._is_stopping() or (self._give_up_s is not None and waited >= self._give_up_s):
            raise JournalUnavailable(f"{self._what}: {why}")
        if waited >= self._said:
            log.warning("waiting for %s (%.0f s): %s", self._what, waited, why)
            self._said = waited + 5.0
        sleep(0.1)  # a broker that comes up refuses connections at once


def _create(admin: AdminClient, missing: list[NewTopic], patience: _Patience) -> None:
    if missing:
        log.info("creating topics: %s", ", ".join(sorted(each.topic for each in missing)))
    while missing:
        troubles = _try_to_create(admin, missing)
        missing = [each for each in missing if each.topic in troubles]
        if missing:
            patience.wait(troubles[missing[0].topic])


def _try_to_create(admin: AdminClient, missing: list[NewTopic]) -> dict[str, str]:
    """Topic → why it cannot be created now. Raises `TopicMismatch` when it never will be."""
    troubles: dict[str, str] = {}
    for topic, future in admin.create_topics(missing, operation_timeout=ANSWER_S).items():
        try:
            future.result()
        except KafkaException as exception:
            error: KafkaError = exception.args[0]
            if error.code() == KafkaError.TOPIC_ALREADY_EXISTS:  # another replica's
                continue
            troubles[topic] = f"cannot create {topic}: {error.str().rstrip('.')}"
            if error.code() not in PASSING:
                raise TopicMismatch(troubles[topic]) from exception
            if error.code() == KafkaError.INVALID_REPLICATION_FACTOR:
                troubles[topic] += ". Start the missing brokers, or change POSTJOURNAL_REPLICATION"
    return troubles


def _partition_counts(admin: AdminClient, wanted: Iterable[str]) -> dict[str, int]:
    """Waits until each topic is known and has leaders: creation is asynchronous."""
    give_up = monotonic() + ANSWER_S
    while True:
        known = admin.list_topics(timeout=ANSWER_S).topics
        ready = {
            topic: len(known[topic].partitions)
            for topic in wanted
            if topic in known
            and known[topic].partitions
            and all(each.leader >= 0 for each in known[topic].partitions.values())
        }
        missing = [topic for topic in wanted if topic not in ready]
        if not missing:
            return ready
        if monotonic() >= give_up:
            raise JournalUnavailable(f"topics without a leader: {missing}")
        sleep(0.05)


def _check_journal(admin: AdminClient, topic: str) -> None:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    found = admin.describe_configs([resource])[resource].result(timeout=ANSWER_S)
    for name, wanted in FOR_EVER.items():
        have = found[name].value
        if have != wanted:
            raise TopicMismatch(
                f"{topic} has {name}={have}, but a journal needs {name}={wanted}: records would "
                f"be lost. Mend it with: kafka-configs.sh --alter --entity-type topics "
                f"--entity-name {topic} --add-config {name}={wanted}"
            )
