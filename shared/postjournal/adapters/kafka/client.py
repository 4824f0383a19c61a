"""The one place that makes librdkafka's clients and works around librdkafka's quirks.

- A client may lose all its brokers for good: see `watched`. Only a new client helps; producers are
  replaced with the help of `discard`.
- The thread that fetches records sleeps for up to a second: see `wake`.
- A partition whose fetch failed cannot be sought in: see `assign` and `reassign`.
- A producer may be unusable after a fatal error: see `serve`.
- A lasting error may be reported only once: see `report_again`.
- Errors are librdkafka's own: see `translated`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import confluent_kafka
import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from postjournal.adapters.kafka.settings import Config
from postjournal.core.errors import BrokersLost, JournalUnavailable

log = logging.getLogger(__name__)

OnError = Callable[[KafkaError], None]
"""Called while the client is polled, with errors that concern the client and no single record."""

OnPositions = Callable[[dict[str, int]], None]
"""Called while a consumer is polled: topic → offset of its next fetch."""

REPORT_MS = 5_000
"""How often a watched client reports its brokers."""

CONSECUTIVE = 2
"""Reports without a broker until the client counts as lost: there is one without any between
forgetting the brokers and adding those of `bootstrap.servers` again."""

ADDRESSED = ("configured", "learned")
"""Sources of brokers that have an address of their own (librdkafka's STATISTICS.md)."""


class TopicRecord(NamedTuple):
    """One record of a topic. `time_ms`: Kafka's timestamp, ms since the Unix epoch.

    `value` is empty for a record without a value. Only `KafkaPartition` fills `headers`.
    """

    partition: int
    offset: int
    key: bytes | None
    value: bytes
    time_ms: int
    headers: Sequence[tuple[str, bytes]] = ()


def to_record(message: Message, *, headers: bool = False) -> TopicRecord:
    """`message`: one that a consumer returned and that has no error."""
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None
    found: Any = message.headers() if headers else ()  # a list of pairs, unlike in the stubs
    return TopicRecord(
        partition,
        offset,
        message.key(),
        message.value() or b"",
        message.timestamp()[1],
        found or (),
    )


# --- making clients -------------------------------------------------------------------------


def make_consumer(
    config: Config,
    on_error: OnError | None = None,
    report_ms: int | None = REPORT_MS,
    on_positions: OnPositions | None = None,
) -> Consumer:
    """A consumer; `report_ms`: see `watched`, None: not watched."""
    return Consumer(_complete(config, on_error, report_ms, on_positions))


def make_producer(
    config: Config, on_error: OnError | None = None, report_ms: int | None = REPORT_MS
) -> Producer:
    """A producer; `report_ms`: see `watched`, None: not watched."""
    return Producer(_complete(config, on_error, report_ms))


def make_admin(config: Config, on_error: OnError | None = None) -> AdminClient:
    """An admin client: it lives for one task and is not watched."""
    return AdminClient(_complete(config, on_error, None))


def _complete(
    config: Config,
    on_error: OnError | None,
    report_ms: int | None,
    on_positions: OnPositions | None = None,
) -> Config:
    config = config | ({"error_cb": on_error} if on_error is not None else {})
    return config if report_ms is None else watched(config, report_ms, on_positions)


def versions() -> tuple[str, str]:
    """The versions of confluent_kafka and of librdkafka."""
    return str(confluent_kafka.version()), str(confluent_kafka.libversion()[0])


# --- clients that lose their brokers ---------------------------------------------------------


class _Broker(msgspec.Struct):
    source: str


class _Partition(msgspec.Struct):
    next_offset: int


class _Topic(msgspec.Struct):
    partitions: dict[str, _Partition]


class _Report(msgspec.Struct):
    brokers: dict[str, _Broker]
    topics: dict[str, _Topic]


_decode = msgspec.json.Decoder(_Report).decode


class _BrokerWatch:
    def __init__(self, on_positions: OnPositions | None) -> None:
        self._without = 0
        self._on_positions = on_positions

    def look(self, text: str) -> None:
        report = _decode(text)
        if self._on_positions is not None:
            self._on_positions(_positions(report))
        brokers = report.brokers.values()
        if any(broker.source in ADDRESSED for broker in brokers):
            self._without = 0
            return
        self._without += 1
        if self._without >= CONSECUTIVE:
            raise BrokersLost(
                "the Kafka client has lost all its brokers and cannot find them again "
                "(librdkafka issue 5301): recreate the client, or restart the process"
            )


def _positions(report: _Report) -> dict[str, int]:
    """Of topics of which one partition is fetched; "-1" is librdkafka's own."""
    return {
        name: partition.next_offset
        for name, topic in report.topics.items()
        for number, partition in topic.partitions.items()
        if number != "-1" and partition.next_offset >= 0
    }


def watched(config: Config, report_ms: int, on_positions: OnPositions | None = None) -> Config:
    """`config` of a client whose `poll`, `consume`, `flush` and `close` raise `BrokersLost`.

    A broker that has just started may answer a metadata request before it knows of any broker.
    librdkafka then forgets all brokers, those of `bootstrap.servers` too, and adds the latter
    again when the last one is down; of two that end in the same moment, neither may count as the
    last (its issue 5301, seen with 2.16). From then on the client connects to no broker, although
    Kafka is available, until it is recreated.

    Only for clients that are polled at least now and then: unread reports pile up.
    """
    look = _BrokerWatch(on_positions).look
    return config | {"statistics.interval.ms": report_ms, "stats_cb": look}


def warm_up(producer: Producer, topic: str) -> None:
    """Connect and learn the topic's leader now rather than at the first record; 1 s at most."""
    try:
        producer.list_topics(topic, timeout=1.0)
    except KafkaException as error:
        log.warning("%s: no answer from Kafka yet: %s; continuing", topic, reason(error))


def serve(producer: Producer) -> KafkaError | None:
    """Serve a producer's callbacks; never waits.

    Returns the fatal error, if there is one, after which only a new producer helps:
    confluent-kafka raises it instead of calling `error_cb`. Raises `BrokersLost`.
    """
    try:
        producer.poll(0)
    except KafkaException as raised:
        error: KafkaError = raised.args[0]
        return error
    return None


def discard(producer: Producer, user: threading.Thread | None = None) -> None:
    """Drop what `producer` holds and close it in the background, once its `user` has ended.

    Delivery reports of the dropped records come from the background thread.
    """
    producer.purge(in_queue=True, in_flight=True)
    threading.Thread(target=_close, args=(producer, user), daemon=True).start()


def _close(producer: Producer, user: threading.Thread | None) -> None:
    if user is not None:
        user.join()
    # What was purged is a gap, which is fatal to a producer with the gapless guarantee.
    with contextlib.suppress(KafkaException, BrokersLost):
        producer.close()


# --- fetching ---------------------------------------------------------------------------------


def assign(
    consumer: Consumer, partitions: list[TopicPartition], paused: Sequence[TopicPartition] = ()
) -> None:
    """Fetch `partitions` from their offsets on, but none of `paused` before it is resumed.

    Also the way to go on after an error: librdkafka does not seek in a partition that failed.
    """
    consumer.assign(partitions)
    if paused:
        consumer.pause([*paused])


def reassign(consumer: Consumer, partition: TopicPartition) -> None:
    """As `assign`, for one partition that failed; the others go on."""
    consumer.incremental_unassign([partition])
    consumer.incremental_assign([partition])


def seek(consumer: Consumer, partition: TopicPartition) -> None:
    """Continue from the offset of `partition`, which may have failed; it is then not paused."""
    try:
        consumer.seek(partition)
    except KafkaException as error:
        log.info("%s/%d: %s; assigning it", partition.topic, partition.partition, reason(error))
        reassign(consumer, partition)


def wake(consumer: Consumer, partitions: Sequence[TopicPartition], timeout_s: float) -> None:
    """Wake the fetching thread of the brokers that lead `partitions`, after an assign or a resume.

    librdkafka's broker thread sleeps for up to 1 s while it fetches nothing, and neither an
    assignment nor a resume wakes it; any request does. A broker that does not answer within
    `timeout_s` seconds costs only that second.
    """
    for partition in partitions:
        try:
            consumer.get_watermark_offsets(partition, timeout=timeout_s, cached=False)
        except KafkaException as error:
            log.debug("%s/%d: not woken: %s", partition.topic, partition.partition, reason(error))


# --- errors -----------------------------------------------------------------------------------

REPORTED_ONCE = (KafkaError.TOPIC_AUTHORIZATION_FAILED,)
"""Errors of a fetch that librdkafka repeats without another report: see `report_again`."""


def report_again(consumer: Consumer, partitions: list[TopicPartition]) -> None:
    """Have an error of `partitions` reported once more, if it lasts; the position does not change.

    librdkafka reports an error again after a change of the position, as which a pause counts.
    """
    consumer.pause(partitions)
    consumer.resume(partitions)


def reason(error: KafkaException) -> str:
    """Return librdkafka's text of the error."""
    text: str = error.args[0].str()
    return text


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise `JournalUnavailable`, which names `what`, for librdkafka's errors."""
    try:
        yield
    except KafkaException as error:
        raise JournalUnavailable(f"{what}: {reason(error)}") from error
    except BufferError as error:  # the producer's queue is full
        raise JournalUnavailable(f"{what}: {error}") from error
    except TimeoutError as error:  # of an admin client's future
        raise JournalUnavailable(f"{what}: no answer in time") from error
