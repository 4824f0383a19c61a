"""Whether a topic exists, and where its partitions begin and end, asked of the broker."""

from __future__ import annotations

from time import monotonic, sleep

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from postjournal.adapters.kafka.client import reason, translated
from postjournal.core.errors import JournalUnavailable, ShardCountMismatch

LEADERLESS = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)
"""The partition's leader is changing, or the broker has just started: ask again soon."""

RETRY_S = 0.1


def partition_count(client: Consumer | Producer, topic: str, timeout_s: float) -> int:
    """How many partitions `topic` has; 0 when it does not exist (yet).

    Raises `JournalUnavailable` when no broker answers within `timeout_s` seconds.
    """
    with translated("no broker answers"):
        found = client.list_topics(topic, timeout=timeout_s).topics[topic]
    if found.error is None:
        return len(found.partitions)
    if found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        return 0
    raise JournalUnavailable(f"{topic}: {found.error.str()}")


def check_partition_count(topic: str, found: int, shards: int) -> None:
    """Raises `ShardCountMismatch` when a topic that exists has not one partition per shard."""
    if found not in (0, shards):
        raise ShardCountMismatch(
            f"{topic} has {found} partitions but POSTJOURNAL_SHARDS is {shards}: "
            "they must be the same in every service"
        )


def bounds(consumer: Consumer, topic: str, partition: int, timeout_s: float) -> tuple[int, int]:
    """The partition's first offset and its exclusive end.

    Raises `JournalUnavailable` when there is no answer within `timeout_s` seconds, or no leader.
    """
    wanted, deadline = TopicPartition(topic, partition), monotonic() + timeout_s
    while True:
        try:
            left_s = max(deadline - monotonic(), RETRY_S)
            found = consumer.get_watermark_offsets(wanted, timeout=left_s, cached=False)
            break
        except KafkaException as error:
            if error.args[0].code() not in LEADERLESS or monotonic() > deadline:
                raise JournalUnavailable(f"{topic}/{partition}: {reason(error)}") from error
            sleep(RETRY_S)
    if found is None:
        raise JournalUnavailable(f"{topic}/{partition}: no answer in {timeout_s} s")
    low, high = found
    return low, high
