"""Watches topics from outside: when each record is seen, and what it says."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.cli.errors import OperationFailed

ANSWER_S = 10.0
MOST = 5_000


class Seen(NamedTuple):
    """A record: `seen_ns` by the monotonic clock; `stamp_ms` is Kafka's, of the Unix epoch."""

    seen_ns: int
    topic: str
    partition: int
    stamp_ms: int
    value: bytes


class Watcher:
    """Follows every partition of some topics, in a thread; keeps what it sees until `take`."""

    def __init__(self, bootstrap: str, topics: list[str], shards: int) -> None:
        """From the topics' present ends on."""
        self._consumer = Consumer(kafka_settings.follower_consumer(bootstrap) | {"log_level": 2})
        partitions = [TopicPartition(topic, shard) for topic in topics for shard in range(shards)]
        try:
            for partition in partitions:
                _, partition.offset = self._consumer.get_watermark_offsets(
                    partition, timeout=ANSWER_S
                )
        except KafkaException as error:
            raise OperationFailed(f"Kafka at {bootstrap} does not answer: {error}") from error
        self.starts = {(each.topic, each.partition): each.offset for each in partitions}
        self._consumer.assign(partitions)
        self._seen: deque[Seen] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="watcher")
        self._thread.start()

    def take(self) -> list[Seen]:
        """What was seen since the last call, in the order of each partition."""
        # Not by giving the thread another list: it may be about to append to this one.
        return [self._seen.popleft() for _ in range(len(self._seen))]

    def close(self) -> None:
        """Watch no longer."""
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        consumer, clock = self._consumer, time.monotonic_ns
        while not self._stop.is_set():
            first = consumer.poll(0.1)
            if first is None:
                continue
            now_ns = clock()  # before anything is done with it
            for message in (first, *consumer.consume(MOST, 0)):
                if message.error() is None:
                    # Decoded later: nothing is to keep this thread from the next record.
                    self._seen.append(
                        Seen(
                            now_ns,
                            message.topic() or "",
                            message.partition() or 0,
                            message.timestamp()[1],
                            message.value() or b"",
                        )
                    )


def end_of(consumer: Consumer, topic: str, partition: int) -> int:
    """The partition's end offset, asked of the broker."""
    try:
        _, end = consumer.get_watermark_offsets(
            TopicPartition(topic, partition), timeout=ANSWER_S, cached=False
        )
    except KafkaException as error:
        raise OperationFailed(f"Kafka does not answer: {error}") from error
    return int(end)


def read_all(bootstrap: str, topic: str, partition: int) -> Iterator[tuple[int, bytes]]:
    """(Kafka's timestamp in ms, value) of every record that is in the partition now."""
    consumer = Consumer(kafka_settings.follower_consumer(bootstrap) | {"log_level": 2})
    try:
        end = end_of(consumer, topic, partition)
        consumer.assign([TopicPartition(topic, partition, 0)])
        next_offset, give_up = 0, time.monotonic() + ANSWER_S
        while next_offset < end:
            for message in consumer.consume(MOST, 0.2):
                if message.error() is None:
                    next_offset = (message.offset() or 0) + 1
                    give_up = time.monotonic() + ANSWER_S
                    yield message.timestamp()[1], message.value() or b""
            if time.monotonic() > give_up:
                raise OperationFailed(f"{topic} cannot be read beyond offset {next_offset}")
    finally:
        consumer.close()
