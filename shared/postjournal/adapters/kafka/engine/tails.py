"""Reading each sink's last record, for a takeover."""

from __future__ import annotations

import logging
import threading
from collections import deque
from queue import Empty, SimpleQueue
from time import monotonic, sleep

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.client import REPORT_MS, assign, make_consumer, reason, wake
from postjournal.adapters.process.wakeup import Wakeup
from postjournal.config.settings import KafkaAccess
from postjournal.core import messages as m
from postjournal.core.records import UNREADABLE

log = logging.getLogger(__name__)

LATEST = -1
"""ListOffsets' timestamp for the end of the partition (KIP-79)."""

READ_S = 1.0
"""The time to read the last records; then it is tried again."""

UNREAD_LOG_S = 10.0
"""How often a sink whose last record cannot be read is logged."""

FURTHER = 8
"""The factor by which a search for the last record goes further back."""


RETRY_S = 0.1
"""What was not read is tried again after this time."""


class _Sequenced(msgspec.Struct):
    seq: int


_sequence_of = msgspec.json.Decoder(_Sequenced).decode


class _Search:
    """For the last record of some partitions; the topics are the sinks'.

    The offset before a partition's end may hold no record, but the marker of a transaction or one
    that was deleted. Then the search goes further and further back.

    `found`: topic → its last record; `empty`: topics without any; `has_failed`: the partitions need
    to be assigned again. A topic that is in neither was not read in time.
    """

    def __init__(self, consumer: Consumer, shard: int, last: dict[str, int]) -> None:
        """`last`: topic → the offset before the partition's end."""
        self._consumer, self._shard, self._last = consumer, shard, last
        self._starts = dict(last)
        self._latest: dict[str, Message] = {}
        self._unanswered = set(last)
        self.found: dict[str, Message] = {}
        self.empty: set[str] = set()
        self.has_failed = False

    def run(self) -> None:
        """Search for up to `READ_S` seconds. Raises KafkaException."""
        partitions = [TopicPartition(topic, self._shard, at) for topic, at in self._last.items()]
        for partition in partitions:
            self._consumer.seek(partition)
        self._consumer.resume(partitions)
        wake(self._consumer, partitions[:1], READ_S)
        deadline = monotonic() + READ_S
        while self._unanswered and monotonic() < deadline:
            message = self._consumer.poll(0.05)
            if message is not None:
                self._on_message(str(message.topic()), message)
        if not self.has_failed:
            self._consumer.pause(partitions)

    def _on_message(self, topic: str, message: Message) -> None:
        error = message.error()
        if topic not in self._unanswered:
            return
        if error is None:
            self._latest[topic] = message
            if message.offset() == self._last[topic]:
                self._end(topic)
        elif error.code() == KafkaError._PARTITION_EOF:
            if topic in self._latest or not self._go_back(topic):
                self._end(topic)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            if message.offset() != self._starts[topic]:
                return  # of an earlier position: librdkafka does not drop it
            self.has_failed = True
            if message.offset() == self._last[topic]:
                self._end(topic)  # retention has emptied it
            else:
                self._unanswered.discard(topic)

    def _end(self, topic: str) -> None:
        self._unanswered.discard(topic)
        if topic in self._latest:
            self.found[topic] = self._latest[topic]
        else:
            self.empty.add(topic)

    def _go_back(self, topic: str) -> bool:
        """Continue further back; False when all offsets have been searched."""
        partition = TopicPartition(topic, self._shard)
        begin, _ = self._consumer.get_watermark_offsets(partition, timeout=READ_S, cached=False)
        start, end = self._starts[topic], self._last[topic] + 1
        if start <= begin:
            return False
        partition.offset = self._starts[topic] = max(end - FURTHER * (end - start), begin)
        self._consumer.seek(partition)
        return True


class TailReader:
    """Reads the sequence of the last record of sinks, in a thread of its own."""

    def __init__(
        self, kafka: KafkaAccess, sink_topics: dict[str, str], shard: int, wakeup: Wakeup
    ) -> None:
        """Assigns the sinks' partitions, paused, so that only a seek is left to do.

        `wakeup` is set when `collect` has something.
        """
        self._wakeup = wakeup
        self._sinks = {topic: sink for sink, topic in sink_topics.items()}
        self._topics = sink_topics
        self._shard = shard
        self._requests: SimpleQueue[dict[str, int] | None] = SimpleQueue()
        self._found: SimpleQueue[tuple[str, int, int]] = SimpleQueue()
        self._generations = dict.fromkeys(sink_topics, 0)
        self._ends = dict.fromkeys(self._sinks, 0)  # topic → as far as known
        # The end of a partition shows that there is no record where one was searched for.
        config = kafka_settings.tail_consumer(kafka) | {"enable.partition.eof": True}
        self._consumer = make_consumer(config)
        self._asking = threading.Lock()
        self._is_closed = False
        self._error: Exception | None = None  # that has ended the thread
        self._asked_s = 0.0  # when the request under way began
        self._logged_s = dict.fromkeys(self._sinks, -UNREAD_LOG_S)  # topic → when it was logged
        self._assign()
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"tails-{shard}")
        self._thread.start()

    def read(self, sinks: frozenset[str]) -> None:
        """`collect` returns a SinkTail for each of `sinks` once the broker has answered."""
        self._requests.put({sink: self._generations[sink] for sink in sinks})

    def forget(self, sink: str) -> None:
        """Drop the SinkTail of this sink that a request so far has found or will find."""
        self._generations[sink] += 1

    def collect(self, into: deque[m.Message]) -> None:
        """Append what was found. Raises what has ended the thread, such as `BrokersLost`."""
        if self._error is not None:
            raise self._error
        while not self._found.empty():
            sink, generation, next_seq = self._found.get()
            if generation == self._generations[sink]:
                into.append(m.SinkTail(sink, next_seq))

    def end_of(self, partition: TopicPartition, timeout_s: float) -> int | None:
        """The end that the broker returns, to the caller's thread; None when it is late.

        A broker answers one connection's requests in order: on a connection that fetches, this
        one would wait for records (100 ms of a silent leader's takeover).
        """
        # Requests of several threads on one client wait for each other beyond their timeouts.
        if not self._asking.acquire(timeout=timeout_s):
            return None
        try:
            if self._is_closed:
                return None
            _, end = self._consumer.get_watermark_offsets(
                partition, timeout=timeout_s, cached=False
            )
        except KafkaException:
            return None
        finally:
            self._asking.release()
        return end

    def close(self) -> None:
        """End the thread and its consumer."""
        self._requests.put(None)
        self._thread.join(2.0)

    def _assign(self) -> None:
        """At the ends: a fetch may be sent before the pause takes effect, and must not fail."""
        partitions = [TopicPartition(topic, self._shard, end) for topic, end in self._ends.items()]
        assign(self._consumer, partitions, paused=partitions)

    def _run(self) -> None:
        try:
            self._serve()
            with self._asking:  # no other thread uses a client that is closed
                self._is_closed = True
                self._consumer.close()
        except Exception as error:  # noqa: BLE001 - raised again by `collect`
            self._error = error
            self._wakeup.set()

    def _next_request(self) -> dict[str, int] | None:
        while True:
            try:
                return self._requests.get(timeout=REPORT_MS / 1000)
            except Empty:
                self._consumer.poll(0)  # for the reports of its brokers: there are no records

    def _serve(self) -> None:
        while (wanted := self._next_request()) is not None:
            self._asked_s = monotonic()
            while wanted and self._is_current(wanted):
                found = self._read_if_possible([self._topics[sink] for sink in wanted])
                for topic, next_seq in found.items():
                    sink = self._sinks[topic]
                    if sink in wanted:  # a late record may repeat what was found before
                        self._found.put((sink, wanted.pop(sink), next_seq))
                        self._wakeup.set()
                if wanted:
                    self._log_late(wanted)
                    self._consumer.poll(0)  # as above: no other call serves the reports
                    sleep(RETRY_S)
                    if not self._add_requests(wanted):
                        return

    def _add_requests(self, wanted: dict[str, int]) -> bool:
        """One sink that cannot be read must not hold up the others; False: the thread is to end."""
        while not self._requests.empty():
            more = self._requests.get()
            if more is None:
                return False
            wanted |= more
        return True

    def _is_current(self, wanted: dict[str, int]) -> bool:
        return any(self._generations[sink] == number for sink, number in wanted.items())

    def _read_if_possible(self, topics: list[str]) -> dict[str, int]:
        """As `_read`; without those that cannot be read, which is logged.

        librdkafka fails the request for all of them when one has no leader: then each is read
        alone, so that one does not hold up the others.
        """
        try:
            return self._read(topics)
        except KafkaException as error:
            self._assign()
            if len(topics) == 1:
                self._log_unread(topics[0], reason(error))
                return {}
        found: dict[str, int] = {}
        for topic in topics:
            found |= self._read_if_possible([topic])
        return found

    def _read(self, topics: list[str]) -> dict[str, int]:
        """Topic → next sequence, of those that answered in time. Raises KafkaException."""
        latest = [TopicPartition(topic, self._shard, LATEST) for topic in topics]
        answered = []
        with self._asking:
            found = self._consumer.offsets_for_times(latest, timeout=READ_S)
        for partition in found:
            if partition.error is not None:
                self._log_unread(partition.topic, partition.error.str())
            else:
                self._ends[partition.topic] = max(partition.offset, 0)
                answered.append(partition.topic)
        empty = {topic: 0 for topic in answered if self._ends[topic] == 0}
        last = {topic: self._ends[topic] - 1 for topic in answered if topic not in empty}
        return empty | self._read_last(last)

    def _log_late(self, wanted: dict[str, int]) -> None:
        if monotonic() - self._asked_s >= READ_S:
            for sink in wanted:
                self._log_unread(self._topics[sink], "no answer in time")

    def _log_unread(self, topic: str, error: str) -> None:
        if self._may_log(topic):
            log.warning(
                "%s/%d: the last record could not be read yet (%s); nothing is published here "
                "until it is; trying again",
                *(topic, self._shard, error),
            )

    def _may_log(self, topic: str) -> bool:
        now_s = monotonic()
        if now_s - self._logged_s[topic] < UNREAD_LOG_S:
            return False
        self._logged_s[topic] = now_s
        return True

    def _read_last(self, last: dict[str, int]) -> dict[str, int]:
        """`last`: topic → the offset before the partition's end."""
        if not last:
            return {}
        search = _Search(self._consumer, self._shard, last)
        search.run()
        if search.has_failed:
            self._assign()
        found = dict.fromkeys(search.empty, 0)
        for topic, record in search.found.items():
            found |= self._next_seq(topic, record)
        return found

    def _next_seq(self, topic: str, last: Message) -> dict[str, int]:
        """Empty when the record is not one of Postjournal's."""
        try:
            return {topic: _sequence_of(last.value() or b"").seq + 1}
        except UNREADABLE as error:
            if self._may_log(topic):
                log.error(
                    "%s/%d: the last record was not written by Postjournal (%s): nothing is "
                    "published here until a record with a seq follows it, or the topic is replaced",
                    *(topic, self._shard, error),
                )
            return {}
