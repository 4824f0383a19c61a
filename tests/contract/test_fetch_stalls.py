"""Partitions that a client stops to receive, without any error of Kafka."""

from __future__ import annotations

import pytest
from confluent_kafka import TopicPartition

from postjournal.adapters.kafka.engine import fetch_watch
from postjournal.adapters.kafka.engine.tails import TailReader
from postjournal.adapters.process.wakeup import Wakeup
from postjournal.config.settings import KafkaAccess
from postjournal.core import messages as m
from postjournal.core.errors import BrokersLost
from tests.support.contract.kafka_log import KafkaLogUnderTest
from tests.support.contract.shard_log import Listener, Received, values

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.parametrize("under_test", ["kafka"], indirect=True),
]


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_watch, "CHECK_S", 0.5)
    monkeypatch.setattr(fetch_watch, "STALL_S", 1.0)


def stop_fetching(under_test: KafkaLogUnderTest, topic: str) -> None:
    """As if librdkafka had forgotten the partition; the log does not know."""
    under_test.kafka_log._consumer.pause([TopicPartition(topic, 0)])


def stalls(received: Received) -> list[m.SourceStalled]:
    return [one for one in received.failures if isinstance(one, m.SourceStalled)]


def test_a_source_that_does_not_arrive_is_reported_until_it_does(
    under_test: KafkaLogUnderTest, listener: Listener
) -> None:
    topic = under_test.topic("commands")
    under_test.log.open_sources({})
    under_test.feed("commands", values(2))
    listener.until(lambda received: len(received.sources.get(topic, [])) == 2)
    stop_fetching(under_test, topic)
    listener.listen_briefly()
    under_test.feed("commands", values(3, first=2))
    received = listener.until(lambda received: bool(stalls(received)))
    stall = stalls(received)[0]
    assert stall.topic == topic
    assert "ends at 5, and nothing arrived from offset 2 on" in str(stall.reason)
    under_test.kafka_log._consumer.resume([TopicPartition(topic, 0)])
    received = listener.until(lambda received: stalls(received)[-1].reason is None)
    assert [value for _, value in received.sources[topic]] == values(5)


def test_an_idle_source_does_not_stand_still(
    under_test: KafkaLogUnderTest, listener: Listener
) -> None:
    topic = under_test.topic("commands")
    under_test.log.open_sources({})
    under_test.feed("commands", values(2))
    listener.until(lambda received: len(received.sources.get(topic, [])) == 2)
    under_test.feed("feed", values(1))
    for _ in range(12):
        assert stalls(listener.listen_briefly()) == []


def test_a_client_that_does_not_receive_the_journal_is_replaced(
    under_test: KafkaLogUnderTest, listener: Listener
) -> None:
    journal = under_test.topics.journal
    under_test.put(journal, values(2))
    listener.until(lambda received: len(received.journal) == 2)
    stop_fetching(under_test, journal)
    listener.listen_briefly()
    under_test.put(journal, values(1, first=2))
    with pytest.raises(BrokersLost, match="ends at 3, and nothing arrived from offset 2 on"):
        listener.until(lambda received: len(received.journal) == 3)


def test_the_end_is_unknown_to_a_thread_that_asks_a_closed_client(
    under_test: KafkaLogUnderTest, kafka: str
) -> None:
    """Otherwise the thread would fail, and end a process that is about to stop cleanly."""
    topics = under_test.topics
    tails = TailReader(KafkaAccess(kafka), topics.sink_topics, 0, Wakeup())
    assert tails.end_of(TopicPartition(topics.journal, 0), 60.0) == 0
    tails.close()
    assert tails.end_of(TopicPartition(topics.journal, 0), 0.1) is None
