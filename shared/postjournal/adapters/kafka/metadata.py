"""Whether a topic exists, and where its partitions begin and end."""

from __future__ import annotations

from time import monotonic, sleep

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from postjournal.core.errors import JournalUnavailable, ShardCountMismatch

LEADERLESS = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)
"""A partition's leader changes, or the broker has just started: ask again, soon."""

RETRY_S = 0.1


def partition_count(client: Consumer | Producer, topic: str, timeout_s: float) -> int:
    """How many partitions `topic` has; 0 when it does not exist (yet).

    Raises `JournalUnavailable` when no broker answers within `timeout_s` seconds.
    """
    try:
        found = client.list_topics(topic, timeout=timeout_s).topics[topic]
    except KafkaException as error:
        raise JournalUnavailable(f"no broker answers: {error.args[0].str()}") from error
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
    """The partition's first offset and the one after its last, asked of the broker now.

    Raises `JournalUnavailable` when there is no answer within `timeout_s` seconds, or no leader.
    """
    place, give_up = TopicPartition(topic, partition), monotonic() + timeout_s
    while True:
        try:
            left_s = max(give_up - monotonic(), RETRY_S)
            found = consumer.get_watermark_offsets(place, timeout=left_s, cached=False)
            break
        except KafkaException as error:
            if error.args[0].code() not in LEADERLESS or monotonic() > give_up:
                raise JournalUnavailable(f"{topic}/{partition}: {error.args[0].str()}") from error
            sleep(RETRY_S)
    if found is None:
        raise JournalUnavailable(f"{topic}/{partition}: no answer in {timeout_s} s")
    low, high = found
    return low, high
