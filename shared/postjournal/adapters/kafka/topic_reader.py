"""Following a whole topic by hand-assigned partitions, outside any consumer group."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.client import watched
from postjournal.adapters.kafka.metadata import bounds, check_partition_count, partition_count
from postjournal.adapters.outage import Outage
from postjournal.core.errors import BrokersLost, JournalUnavailable

log = logging.getLogger(__name__)

Start = Callable[[int, int], int]
"""From a partition's first offset and its exclusive end: where to begin."""

METADATA_TIMEOUT_S = 1.0
NUDGE_S = 0.05
RETRY_S = 0.1


def beginning(low: int, high: int) -> int:
    """Everything that the topic still has."""
    del high
    return low


def end(low: int, high: int) -> int:
    """Only what comes after the topic was opened."""
    del low
    return high


def back(records: int) -> Start:
    """The last `records` records of each partition, and what comes."""

    def start(low: int, high: int) -> int:
        return max(low, high - records)

    return start


class TopicReader:
    """Reads all partitions of one topic. Used by one thread; never raises for a missing broker.

    Offsets are asked of the broker and assigned as numbers, so that from the moment `is_open`
    turns true nothing that is appended afterwards is missed.
    """

    def __init__(self, bootstrap: str, topic: str, partitions: int, start: Start) -> None:
        """Connects in the background; `partitions` is what the topic must have."""
        self._topic, self._partitions, self._start = topic, partitions, start
        self._bootstrap = bootstrap
        self._outage = Outage(f"topic {topic}", log)
        self._consumer = self._make()
        self._behind: dict[int, int] | None = None
        self._next: dict[int, int] = {}  # partition → offset; empty: where `start` says
        self._is_paused = False

    def _make(self) -> Consumer:
        settings = kafka_settings.follower_consumer(self._bootstrap) | {
            # When retention overtakes the reader it goes on with the oldest record that is left.
            "auto.offset.reset": "earliest",
            "log_level": 2,
            "error_cb": self._on_error,
        }
        return Consumer(watched(settings))

    def _renew(self, lost: BrokersLost) -> None:
        """`open` then goes on where the lost client was."""
        log.warning("topic %s: %s", self._topic, lost)
        self._consumer = self._make()
        self._behind = None

    @property
    def is_open(self) -> bool:
        """The topic exists and its partitions are assigned."""
        return self._behind is not None

    @property
    def is_caught_up(self) -> bool:
        """Everything that the topic held when it was opened has been handed out."""
        return self._behind is not None and not self._behind

    @property
    def trouble(self) -> str:
        """Why nothing comes, or ""."""
        return self._outage.why

    def open(self) -> bool:
        """Assign the partitions when the topic is there; call again until it returns True.

        Waits about a second at most. Raises `ShardCountMismatch`.
        """
        try:
            return self._behind is not None or self._open()
        except BrokersLost as lost:
            self._renew(lost)
            return False

    def _open(self) -> bool:
        try:
            found = partition_count(self._consumer, self._topic, METADATA_TIMEOUT_S)
            if found == 0:
                raise JournalUnavailable("does not exist yet; a replica creates it")
            check_partition_count(self._topic, found, self._partitions)
            self._assign()
        except JournalUnavailable as error:
            self._outage.begin(str(error))
            self._consumer.poll(RETRY_S)  # serves the client's callbacks and paces the attempts
            return False
        self._outage.end()
        return True

    def _assign(self) -> None:
        places, behind = [], {}
        for partition in range(self._partitions):
            low, high = bounds(self._consumer, self._topic, partition, METADATA_TIMEOUT_S)
            place = max(low, self._next.get(partition, self._start(low, high)))
            places.append(TopicPartition(self._topic, partition, place))
            if place < high:
                behind[partition] = high
        self._consumer.assign(places)
        if self._is_paused:
            self._consumer.pause(places)
        else:
            self._next = {place.partition: place.offset for place in places}
        self._behind = behind
        self._nudge()

    def poll(self, timeout_s: float, limit: int = 2_000) -> list[Message]:
        """The next records; waits up to `timeout_s` seconds for the first, for no other.

        `is_open` may be false afterwards: then `open` again.
        """
        try:
            messages = self._take(timeout_s, limit)
        except BrokersLost as lost:
            self._renew(lost)
            return []
        records = [message for message in messages if not self._is_error(message)]
        if records:
            self._outage.end()
            self._note_progress(records)
        return records

    def _take(self, timeout_s: float, limit: int) -> list[Message]:
        first = self._consumer.poll(timeout_s)
        if first is None:
            self._look_for_broker()
            return []
        return [first, *self._consumer.consume(limit - 1, 0)]

    def pause(self) -> None:
        """Fetch nothing until `skip_to_end`."""
        self._is_paused = True
        self._next.clear()
        self._consumer.pause(self._all())

    def skip_to_end(self) -> None:
        """Go on with what is appended from now on. Raises `JournalUnavailable`."""
        ends = []
        for partition in range(self._partitions):
            _, high = bounds(self._consumer, self._topic, partition, METADATA_TIMEOUT_S)
            ends.append(TopicPartition(self._topic, partition, high))
        try:
            for place in ends:
                self._consumer.seek(place)
        except KafkaException as error:
            raise JournalUnavailable(f"{self._topic}: {error.args[0].str()}") from error
        self._consumer.resume(self._all())
        self._is_paused = False
        self._next = {place.partition: place.offset for place in ends}
        self._nudge()

    def close(self) -> None:
        """Let go of the connections."""
        with suppress(BrokersLost):
            self._consumer.close()

    def _all(self) -> list[TopicPartition]:
        return [TopicPartition(self._topic, each) for each in range(self._partitions)]

    def _nudge(self) -> None:
        """Ask the broker anything: it wakes librdkafka's thread that fetches.

        That thread looks for partitions to fetch once a second when it has nothing else to do.
        """
        for partition in range(self._partitions):
            try:
                bounds(self._consumer, self._topic, partition, NUDGE_S)
            except JournalUnavailable as error:
                log.debug("%s: not nudged, so records come up to a second later", error)

    def _note_progress(self, records: list[Message]) -> None:
        for message in records:
            partition, offset = message.partition(), message.offset()
            if partition is not None and offset is not None:
                self._next[partition] = offset + 1
        if self._behind:
            self._behind = {
                partition: wanted
                for partition, wanted in self._behind.items()
                if self._next.get(partition, 0) < wanted
            }

    def _look_for_broker(self) -> None:
        """The client tells when all brokers are gone, but not when one is back."""
        if not self._outage.active:
            return
        try:
            partition_count(self._consumer, self._topic, METADATA_TIMEOUT_S)
        except JournalUnavailable:
            return
        self._outage.end()

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._outage.begin("Kafka is away")

    def _is_error(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return False
        self._outage.begin(error.str())
        return True
