"""Creates the topics with the right settings, and checks those that exist."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from time import monotonic, sleep

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from postjournal.adapters import kafka_settings
from postjournal.core.errors import JournalUnavailable, ShardCountMismatch, TopicMismatch
from postjournal.topics import Topics

log = logging.getLogger(__name__)

FOR_EVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}

BIG = {"max.message.bytes": "8388608"}
"""For the 8 MB of kafka_settings.journal_producer and sink_producer."""

MINUTES_10 = str(10 * 60 * 1000)
WEEK = str(7 * 24 * 3600 * 1000)

ANSWER_S = 10.0
"""How long one request to Kafka may take."""


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
    started, said = monotonic(), 0.0
    while True:
        try:
            admin.list_topics(timeout=2.0)
        except KafkaException as error:
            waited, why = monotonic() - started, troubles[-1] if troubles else "no answer yet"
            if is_stopping() or (give_up_s is not None and waited >= give_up_s):
                raise JournalUnavailable(f"Kafka at {bootstrap}: {why}") from error
            if waited >= said:
                log.warning("waiting for Kafka at %s (%.0f s): %s", bootstrap, waited, why)
                said = waited + 5.0
            sleep(0.1)  # a broker that comes up refuses connections at once
        else:
            return admin


def ensure_topics(admin: AdminClient, topics: Topics, shards: int, replication: int) -> None:
    """Create what is missing, check what is there.

    Raises `ShardCountMismatch` or `TopicMismatch`, saying what to do; KafkaException.
    """
    have = admin.list_topics(timeout=ANSWER_S).topics
    settings = topic_settings(topics)
    missing = [topic for topic in topics.all if topic not in have]
    _create(admin, missing, settings, shards, replication)
    counts = _partition_counts(admin, topics.all)
    wrong = {topic: count for topic, count in counts.items() if count != shards}
    if wrong:
        raise ShardCountMismatch(
            f"POSTJOURNAL_SHARDS is {shards}, but these topics have another number of "
            f"partitions: {wrong}. Set POSTJOURNAL_SHARDS to it; a running system's number of "
            "shards cannot be changed, since the key picks the shard"
        )
    _check_journal(admin, topics.journal)


def _create(
    admin: AdminClient,
    missing: Iterable[str],
    settings: Mapping[str, dict[str, str]],
    shards: int,
    replication: int,
) -> None:
    new = [
        NewTopic(
            topic, num_partitions=shards, replication_factor=replication, config=settings[topic]
        )
        for topic in missing
    ]
    if not new:
        return
    log.info("creating topics: %s", ", ".join(sorted(each.topic for each in new)))
    for topic, future in admin.create_topics(new, operation_timeout=ANSWER_S).items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another replica's
                raise TopicMismatch(f"cannot create {topic}: {error.args[0].str()}") from error


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
