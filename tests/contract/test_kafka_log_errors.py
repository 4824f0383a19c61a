"""Errors of Kafka that end a client, or that last: none ends the engine, and none is silent."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from uuid import uuid4

import pytest
from confluent_kafka import KafkaError, Message, Producer

from postjournal.adapters.kafka.client import wake
from postjournal.adapters.kafka.notifications import handle, librdkafka
from postjournal.core import messages as m
from tests.support.contract.kafka_log import KafkaLogUnderTest
from tests.support.contract.shard_log import SINK, Listener, outputs
from tests.support.topics import set_config

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.parametrize("under_test", ["kafka"], indirect=True),
]


def end_client(producer: Producer) -> None:
    """As if the broker had refused a request of it for good."""
    fail = librdkafka().rd_kafka_test_fatal_error
    fail.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p]
    assert fail(handle(producer), KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, b"planted") == 0


def open_sink(under_test: KafkaLogUnderTest, listener: Listener) -> int:
    listener.reset()
    under_test.log.open_sink(SINK)
    listener.until(lambda received: bool(received.tails))
    return listener.received.tails[0][1]


def publish(under_test: KafkaLogUnderTest, listener: Listener, first: int, end: int) -> None:
    under_test.log.publish(SINK, outputs(first, end))
    listener.until(lambda received: (SINK, end) in received.published)


# --- producers -----------------------------------------------------------------------------------


def test_a_sink_whose_producer_has_ended_is_opened_again_with_another_one(
    under_test: KafkaLogUnderTest, listener: Listener
) -> None:
    open_sink(under_test, listener)
    publish(under_test, listener, 0, 3)
    end_client(under_test.kafka_log._writers[SINK]._producer)
    under_test.kafka_log._serve_due_s = 0.0
    received = listener.until(lambda received: bool(received.failures))
    [failure] = received.failures
    assert isinstance(failure, m.PublishFailed)
    assert failure.sink == SINK
    assert open_sink(under_test, listener) == 3
    publish(under_test, listener, 3, 6)
    assert under_test.sink_seqs() == list(range(6))


def test_a_leader_whose_journal_producer_has_ended_appends_with_another_one(
    under_test: KafkaLogUnderTest, listener: Listener
) -> None:
    under_test.log.append(b"first")
    listener.until(lambda received: len(received.journal) == 1)
    listener.until(lambda received: received.acknowledged == 1)
    end_client(under_test.kafka_log._appender)
    under_test.log.append(b"refused")
    listener.until(lambda received: bool(received.failures))
    assert all(isinstance(failure, m.AppendFailed) for failure in listener.received.failures)
    under_test.log.forget_appends()
    under_test.log.append(b"second")
    received = listener.until(lambda received: len(received.journal) == 2)
    assert received.journal == [(0, b"first"), (1, b"second")]


def test_a_standbys_producers_that_have_ended_are_replaced_before_they_are_needed(
    under_test: KafkaLogUnderTest, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    log = under_test.kafka_log

    def producers() -> list[Producer]:
        return [log._appender, log._claims._producer, log._writers[SINK]._producer]

    ended = producers()
    for producer in ended:
        end_client(producer)
    log._serve_due_s = 0.0
    while any(new is old for new, old in zip(producers(), ended, strict=True)):
        listener.listen_briefly()
    assert "planted" in caplog.text
    log.append(b"entry")
    log.append_claim(b"claim")
    received = listener.until(lambda received: len(received.journal) == 2)
    assert {value for _, value in received.journal} == {b"entry", b"claim"}
    open_sink(under_test, listener)
    publish(under_test, listener, 0, 1)
    assert listener.received.failures == []


def test_a_client_that_has_ended_can_be_closed(under_test: KafkaLogUnderTest) -> None:
    log = under_test.kafka_log
    end_client(log._appender)
    end_client(log._writers[SINK]._producer)
    log.append(b"entry")
    log._writers[SINK].write(outputs(0, 1))


# --- topics that refuse --------------------------------------------------------------------------


def wait_until_refused(kafka: str, topic: str) -> None:
    """Kafka applies changes of settings in their order, some time later."""
    errors: list[KafkaError | None] = [None]
    producer = Producer({"bootstrap.servers": kafka})
    while errors[-1] is None:
        producer.produce(topic, b"{}", partition=0, on_delivery=lambda e, _: errors.append(e))
        assert producer.flush(60) == 0


def test_a_sink_that_is_made_compact_for_a_while_goes_on_without_a_gap(
    kafka: str, under_test: KafkaLogUnderTest, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    topic = under_test.topics.sink_topics[SINK]
    open_sink(under_test, listener)
    publish(under_test, listener, 0, 2)
    for compacted in (topic, under_test.topics.sink_topics["balances"]):
        set_config(kafka, compacted, "cleanup.policy", "compact")  # takes no record without a key
    wait_until_refused(kafka, under_test.topics.sink_topics["balances"])
    for _ in range(3):
        under_test.log.publish(SINK, outputs(2, 4))
        listener.until(lambda received: bool(received.failures))
        assert open_sink(under_test, listener) == 2
    refusals = [record for record in caplog.records if "publishing failed" in record.message]
    assert len(refusals) == 1, "a sink that goes on failing is logged now and then"
    set_config(kafka, topic, "cleanup.policy", None)
    while (SINK, 4) not in listener.received.published:
        under_test.log.publish(SINK, outputs(2, 4))
        received = listener.until(lambda received: bool(received.failures or received.published))
        if received.failures:
            assert open_sink(under_test, listener) == 2
    assert under_test.sink_seqs() == [0, 1, 2, 3]


def test_a_claim_that_kafka_refuses_is_logged_once_and_shown(
    kafka: str, under_test: KafkaLogUnderTest, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    log = under_test.kafka_log
    set_config(kafka, under_test.topics.journal, "cleanup.policy", "compact")
    for _ in range(3):
        log.append_claim(b"claim")
        listener.listen_briefly()
    assert "a claim was refused" in (log.unavailable_reason or "")
    assert caplog.text.count("has refused a claim") == 1
    set_config(kafka, under_test.topics.journal, "cleanup.policy", "delete")
    while log.unavailable_reason is not None:
        log.append_claim(b"claim")
        listener.listen_briefly()
    assert listener.received.journal


@pytest.mark.parametrize("is_late", [False, True])
def test_a_source_that_retention_has_emptied_concerns_only_its_reader(
    under_test: KafkaLogUnderTest,
    listener: Listener,
    caplog: pytest.LogCaptureFixture,
    is_late: bool,
) -> None:
    """`is_late`: the failed fetch is found only when the sources are open."""
    caplog.set_level("INFO")
    source = under_test.topic("commands")
    under_test.feed("commands", [b"v0", b"v1"])
    under_test.empty(source)
    log = under_test.kafka_log
    log._consumer.resume(log._sources)  # as if a fetch had been sent before the pause
    wake(log._consumer, log._sources, 60.0)
    time.sleep(1.0 if is_late else 0.0)
    while not is_late and "retention has deleted" not in caplog.text:
        listener.listen_briefly()
    under_test.log.append(b"entry")
    under_test.log.open_sources({source: 2})
    under_test.feed("commands", [b"v2"])
    listener.until(lambda received: received.sources == {source: [(2, b"v2")]})
    under_test.log.close_sources()


def test_a_claim_that_is_lost_with_a_connection_was_not_refused(
    under_test: KafkaLogUnderTest,
) -> None:
    claims = under_test.kafka_log._claims
    message = Message(topic="t", partition=0, offset=-1)
    for code in (KafkaError._TRANSPORT, KafkaError._MSG_TIMED_OUT, KafkaError._PURGE_INFLIGHT):
        claims._on_delivery(claims._producer, KafkaError(code), message)
    assert under_test.kafka_log.unavailable_reason is None


# --- records that are none -----------------------------------------------------------------------


def transaction(
    kafka: str, topic: str, values: list[bytes], end: Callable[[Producer], None]
) -> None:
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": uuid4().hex})
    producer.init_transactions(60)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value, partition=0)
    producer.flush(60)
    end(producer)


def commit(producer: Producer) -> None:
    producer.commit_transaction(60)


def test_a_sink_whose_last_record_is_foreign_does_not_hold_up_the_others(
    under_test: KafkaLogUnderTest, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    under_test.put(under_test.topics.sink_topics[SINK], [b"foreign"])
    under_test.log.open_sink(SINK)
    while "was not written by Postjournal" not in caplog.text:
        listener.listen_briefly()
    under_test.log.open_sink("balances")
    listener.until(lambda received: received.tails == [("balances", 0)])
    assert caplog.text.count("was not written by Postjournal") == 1


def test_markers_of_transactions_at_a_sinks_end_hide_no_record(
    kafka: str, under_test: KafkaLogUnderTest, listener: Listener
) -> None:
    topic = under_test.topics.sink_topics[SINK]
    open_sink(under_test, listener)
    publish(under_test, listener, 0, 30)
    for number in (30, 31):
        transaction(kafka, topic, [b'{"seq":%d}' % number], commit)
    assert open_sink(under_test, listener) == 32
    publish(under_test, listener, 32, 34)
    assert open_sink(under_test, listener) == 34


def test_a_sink_of_which_only_markers_are_left_is_empty(
    kafka: str, under_test: KafkaLogUnderTest, listener: Listener
) -> None:
    topic = under_test.topics.sink_topics[SINK]
    for number in range(12):
        transaction(kafka, topic, [b'{"seq":%d}' % number], commit)
    assert open_sink(under_test, listener) == 12
    under_test.trim_sink(23)
    assert open_sink(under_test, listener) == 0
