"""What only the log on a real Kafka promises: its topics are others' as well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from postjournal.adapters.kafka import shard_log as kafka_log
from postjournal.adapters.kafka.sink import RETRY_S
from postjournal.cluster.status import Handover
from postjournal.core import messages as m
from postjournal.core.state.outbox import Outputs
from tests.support.contract.real import KafkaHarness
from tests.support.contract.shard_log import SINK, Listener

pytestmark = pytest.mark.kafka

NESTED = b'{"x":' + b"[" * 100_000
"""msgspec raises RecursionError for it."""


@pytest.fixture
def harness(kafka: str) -> Iterator[KafkaHarness]:
    made = KafkaHarness(kafka)
    yield made
    made.close()


@pytest.fixture
def ear(harness: KafkaHarness) -> Listener:
    return Listener(harness)


# --- sinks -------------------------------------------------------------------------------------


def test_an_unknown_record_at_a_sinks_end_delays_no_other_sink_and_only_while_it_is_there(
    harness: KafkaHarness, ear: Listener
) -> None:
    harness.put(harness.topics.sink_topics[SINK], [NESTED])
    harness.put(harness.topics.sink_topics["balances"], [b'{"seq":2}'])
    harness.log.open_sink(SINK)
    harness.log.open_sink("balances")
    ear.until(lambda heard: heard.tails == [("balances", 3)])
    ear.a_while()
    harness.put(harness.topics.sink_topics[SINK], [b'{"seq":4}'])
    ear.until(lambda heard: heard.tails == [("balances", 3), (SINK, 5)])


def test_a_big_output_is_published(harness: KafkaHarness, ear: Listener) -> None:
    harness.log.open_sink(SINK)
    ear.until(lambda heard: heard.tails == [(SINK, 0)])
    harness.log.publish(SINK, Outputs(0, [b'{"seq":0,"x":"%s"}' % (b"x" * 3_000_000)]))
    ear.until(lambda heard: heard.published == [(SINK, 1)])
    harness.log.open_sink(SINK)
    ear.until(lambda heard: heard.tails == [(SINK, 0), (SINK, 1)])


def test_a_sink_that_failed_is_opened_again_after_a_pause(
    harness: KafkaHarness, ear: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 0.0
    monkeypatch.setattr(kafka_log, "monotonic", lambda: clock)
    harness.log.open_sink(SINK)
    ear.until(lambda heard: heard.tails == [(SINK, 0)])
    harness.log.publish(SINK, Outputs(0, [b"x" * 9_000_000]))
    ear.until(lambda heard: bool(heard.failures))
    ear.forget()
    harness.log.open_sink(SINK)
    harness.log.open_sink("balances")
    ear.until(lambda heard: heard.tails == [("balances", 0)])
    assert ear.a_while().tails == [("balances", 0)]
    clock = RETRY_S
    ear.until(lambda heard: heard.tails == [("balances", 0), (SINK, 0)])


# --- the control topic -------------------------------------------------------------------------


def handover(successor: str) -> bytes:
    return msgspec.json.encode(Handover(shard=0, successor=successor, time=0))


def test_a_replica_that_was_stopped_for_longer_than_control_records_are_kept_reads_the_next_one(
    harness: KafkaHarness, ear: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    harness.log.append(b"first")
    harness.feed("commands", [b"v0"])
    harness.log.open_sources({})
    ear.until(lambda heard: len(heard.journal) == 1 and bool(heard.sources))
    asleep = TopicPartition(harness.topics.control, 0)
    harness.kafka_log._consumer.pause([asleep])
    harness.put(harness.topics.control, [handover("old")] * 3)
    harness.empty(harness.topics.control)
    harness.kafka_log._consumer.resume([asleep])
    while "continuing at the end" not in caplog.text:
        ear.a_while()
    harness.put(harness.topics.control, [handover("new")])
    ear.until(lambda heard: heard.failures == [m.HandoverRequested("new")])
    harness.log.append(b"second")
    harness.feed("commands", [b"v1"])
    ear.until(lambda heard: len(heard.journal) == 2)
    source = harness.topic("commands")
    ear.until(lambda heard: len(heard.sources[source]) == 2)
    heard = ear.a_while()
    assert heard.failures == [m.HandoverRequested("new")]
    assert heard.journal == [(0, b"first"), (1, b"second")]
    assert heard.sources == {source: [(0, b"v0"), (1, b"v1")]}


# --- the journal -------------------------------------------------------------------------------


class Unanswering:
    """A consumer whose broker does not return the bounds of a partition."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    def get_watermark_offsets(self, *asked: Any, **how: Any) -> tuple[int, int]:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))


def test_a_trimmed_journal_is_reported_when_kafka_does_not_return_its_beginning(
    harness: KafkaHarness, ear: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in (b"v0", b"v1", b"v2"):
        harness.log.append(value)
    ear.until(lambda heard: len(heard.journal) == 3)
    harness.trim(2)
    harness.log.rewind()
    log = harness.kafka_log
    monkeypatch.setattr(log, "_consumer", Unanswering(log._consumer))
    harness.log.open_journal(1)
    ear.until(lambda heard: heard.trimmed == 1)
