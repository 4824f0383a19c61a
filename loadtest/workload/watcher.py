"""Watches topics from outside: when each record is seen, and what it says."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

from postjournal.adapters.kafka.partition_reader import LiveReader, PartitionFinder
from postjournal.cli.errors import OperationFailed
from postjournal.config.settings import KafkaAccess
from postjournal.core.errors import JournalUnavailable

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

    def __init__(self, kafka: KafkaAccess, topics: list[str], shards: int) -> None:
        """From the topics' present ends on."""
        try:
            self._reader = LiveReader(kafka, topics, shards)
        except JournalUnavailable as error:
            raise OperationFailed(f"Kafka at {kafka.bootstrap} does not answer: {error}") from error
        self.starts = self._reader.starts
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
        self._reader.close()

    def _run(self) -> None:
        reader, clock = self._reader, time.monotonic_ns
        while not self._stop.is_set():
            if not reader.wait(0.1):
                continue
            now_ns = clock()  # before anything is done with it
            for topic, record in reader.read(MOST):
                # Decoded later: nothing is to keep this thread from the next record.
                self._seen.append(
                    Seen(now_ns, topic, record.partition, record.time_ms, record.value)
                )


def end_of(finder: PartitionFinder, topic: str, partition: int) -> int:
    """The partition's end offset, asked of the broker."""
    try:
        return finder.end(topic, partition)
    except JournalUnavailable as error:
        raise OperationFailed(f"Kafka does not answer: {error}") from error


def read_all(kafka: KafkaAccess, topic: str, partition: int) -> Iterator[tuple[int, bytes]]:
    """(Kafka's timestamp in ms, value) of every record that is in the partition now."""
    try:
        with closing(PartitionFinder(kafka)) as finder:
            found = finder.partition(topic, partition)
        for record in found.records(found.first):
            yield record.time_ms, record.value
    except JournalUnavailable as error:
        raise OperationFailed(f"{topic} cannot be read: {error}") from error
