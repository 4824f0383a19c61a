"""What only the log on a real Kafka promises: other processes write to its topics too."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from postjournal.adapters.kafka.engine import shard_log as kafka_log
from postjournal.adapters.kafka.engine.sink import RETRY_S
from postjournal.cluster.status import Handover
from postjournal.core import messages as m
from postjournal.core.state.outbox import Outputs
from tests.support.contract.kafka_log import KafkaLogUnderTest
from tests.support.contract.shard_log import SINK, Listener

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.parametrize("under_test", ["kafka"], indirect=True),
]

NESTED = b'{"x":' + b"[" * 100_000
"""A record for which msgspec raises RecursionError."""

# --- sinks -------------------------------------------------------------------------------------


def test_a_foreign_record_at_a_sinks_end_delays_only_that_sink_until_a_valid_record_follows(
    under_test: KafkaLogUnderTest, listener: Listener
) -> None:
    under_test.put(under_test.topics.sink_topics[SINK], [NESTED])
    under_test.put(under_test.topics.sink_topics["balances"], [b'{"seq":2}'])
    under_test.log.open_sink(SINK)
    under_test.log.open_sink("balances")
    listener.until(lambda received: received.tails == [("balances", 3)])
    listener.listen_briefly()
    under_test.put(under_test.topics.sink_topics[SINK], [b'{"seq":4}'])
    listener.until(lambda received: received.tails == [("balances", 3), (SINK, 5)])


def test_a_big_output_is_published(under_test: KafkaLogUnderTest, listener: Listener) -> None:
    under_test.log.open_sink(SINK)
    listener.until(lambda received: received.tails == [(SINK, 0)])
    under_test.log.publish(SINK, Outputs(0, [b'{"seq":0,"x":"%s"}' % (b"x" * 3_000_000)]))
    listener.until(lambda received: received.published == [(SINK, 1)])
    under_test.log.open_sink(SINK)
    listener.until(lambda received: received.tails == [(SINK, 0), (SINK, 1)])


def test_a_failed_sink_is_reopened_after_a_pause(
    under_test: KafkaLogUnderTest, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 0.0
    monkeypatch.setattr(kafka_log, "monotonic", lambda: clock)
    under_test.log.open_sink(SINK)
    listener.until(lambda received: received.tails == [(SINK, 0)])
    under_test.log.publish(SINK, Outputs(0, [b"x" * 9_000_000]))
    listener.until(lambda received: bool(received.failures))
    listener.reset()
    under_test.log.open_sink(SINK)
    under_test.log.open_sink("balances")
    listener.until(lambda received: received.tails == [("balances", 0)])
    assert listener.listen_briefly().tails == [("balances", 0)]
    clock = RETRY_S
    listener.until(lambda received: received.tails == [("balances", 0), (SINK, 0)])


# --- the control topic -------------------------------------------------------------------------


def handover(successor: str) -> bytes:
    return msgspec.json.encode(Handover(shard=0, successor=successor, time=0))


def test_a_replica_paused_beyond_the_retention_of_control_records_receives_the_next_one(
    under_test: KafkaLogUnderTest, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    under_test.log.append(b"first")
    under_test.feed("commands", [b"v0"])
    under_test.log.open_sources({})
    listener.until(lambda received: len(received.journal) == 1 and bool(received.sources))
    paused = TopicPartition(under_test.topics.control, 0)
    under_test.kafka_log._consumer.pause([paused])
    under_test.put(under_test.topics.control, [handover("old")] * 3)
    under_test.empty(under_test.topics.control)
    under_test.kafka_log._consumer.resume([paused])
    while "continuing at the end" not in caplog.text:
        listener.listen_briefly()
    under_test.put(under_test.topics.control, [handover("new")])
    listener.until(lambda received: received.failures == [m.HandoverRequested("new")])
    under_test.log.append(b"second")
    under_test.feed("commands", [b"v1"])
    listener.until(lambda received: len(received.journal) == 2)
    source = under_test.topic("commands")
    listener.until(lambda received: len(received.sources[source]) == 2)
    received = listener.listen_briefly()
    assert received.failures == [m.HandoverRequested("new")]
    assert received.journal == [(0, b"first"), (1, b"second")]
    assert received.sources == {source: [(0, b"v0"), (1, b"v1")]}


# --- the journal -------------------------------------------------------------------------------


class WithoutWatermarks:
    """A consumer whose broker does not return the bounds of a partition."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    def get_watermark_offsets(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))


def test_a_trimmed_journal_is_reported_when_kafka_does_not_return_its_bounds(
    under_test: KafkaLogUnderTest, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in (b"v0", b"v1", b"v2"):
        under_test.log.append(value)
    listener.until(lambda received: len(received.journal) == 3)
    under_test.trim(2)
    under_test.log.rewind()
    log = under_test.kafka_log
    monkeypatch.setattr(log, "_consumer", WithoutWatermarks(log._consumer))
    under_test.log.open_journal(1)
    listener.until(lambda received: received.trimmed == 1)
