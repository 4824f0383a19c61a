"""Follows topics as an external client does, and records when each record is seen."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import NamedTuple

from loadtest.kafka import MAX_RECORDS, follow_from_end, follower
from postjournal.config.settings import KafkaAccess

POLL_TIMEOUT_S = 0.1


class Seen(NamedTuple):
    """A record: `seen_ns` by the monotonic clock; `stamp_ms` is Kafka's, of the Unix epoch."""

    seen_ns: int
    topic: str
    partition: int
    stamp_ms: int
    value: bytes


class Watcher:
    """Follows every partition of some topics from their ends, in a thread.

    `starts`: (topic, partition) → the offset of the first record that is seen.
    """

    def __init__(self, kafka: KafkaAccess, topics: list[str], shards: int) -> None:
        self._consumer = follower(kafka)
        self.starts = follow_from_end(self._consumer, topics, shards)
        self._seen: deque[Seen] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="watcher")
        self._thread.start()

    def take(self) -> list[Seen]:
        """What was seen since the last call, in the order of each partition."""
        # Swapping in another deque instead would lose a record that the thread appends meanwhile.
        return [self._seen.popleft() for _ in range(len(self._seen))]

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        consumer, clock = self._consumer, time.monotonic_ns
        while not self._stop.is_set():
            first = consumer.poll(POLL_TIMEOUT_S)
            if first is None:
                continue
            now_ns = clock()  # before any work that would count as latency
            for message in (first, *consumer.consume(MAX_RECORDS, 0)):
                if message.error() is None:
                    # Decoded by the thread that takes them: decoding would delay the next record.
                    self._seen.append(
                        Seen(
                            now_ns,
                            message.topic() or "",
                            message.partition() or 0,
                            message.timestamp()[1],
                            message.value() or b"",
                        )
                    )
