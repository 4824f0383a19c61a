"""librdkafka's quirks: lost brokers, sleeping threads, partitions that failed, its errors."""

from __future__ import annotations

import ast
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from postjournal.adapters.kafka import client as kafka_client
from postjournal.adapters.kafka.client import (
    make_consumer,
    make_producer,
    translated,
    wake,
    watched,
)
from postjournal.adapters.kafka.control_log import ControlLog
from postjournal.adapters.kafka.engine import tails as kafka_tails
from postjournal.adapters.kafka.engine.tails import TailReader
from postjournal.adapters.process.wakeup import Wakeup
from postjournal.cluster.status import Handover
from postjournal.cluster.topics import Topics
from postjournal.config.settings import KafkaAccess, Settings
from postjournal.core.errors import BrokersLost, JournalUnavailable
from postjournal.core.state.apply_guard import ApplyGuard
from postjournal.ledger import Ledger
from services.replica import shard as shard_module
from services.replica.shard import Addresses, ShardRunner, Shared
from tests.support.engines import StubParent
from tests.support.fake_broker import TOPIC, FakeBroker

ROOT = Path(__file__).parents[2]
REPORT_MS = 50

Client = Producer | Consumer


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    made = FakeBroker()
    yield made
    made.close()


def settings(broker: FakeBroker) -> dict[str, Any]:
    return {
        "bootstrap.servers": broker.address,
        "group.id": "g",
        "log_level": 0,
        "topic.metadata.refresh.interval.ms": 100,
        # The loss is a race within librdkafka; without recovery it is sure.
        "metadata.recovery.strategy": "none",
    }


@contextmanager
def closing(client: Client) -> Iterator[Client]:
    """A client that is neither polled nor closed keeps its reports: 0.2 MB a second each.

    Going out of scope is not enough: confluent-kafka 2.16.1 leaks each exception that a callback
    raises, and with its traceback the frame that holds the client.
    """
    try:
        yield client
    finally:
        with suppress(BrokersLost):
            client.close()


@pytest.mark.parametrize("make", [make_producer, make_consumer])
def test_a_client_that_has_lost_its_brokers_raises(
    broker: FakeBroker, make: Callable[..., Client]
) -> None:
    with closing(make(settings(broker), report_ms=REPORT_MS)) as client:
        client.list_topics(TOPIC, timeout=20)
        broker.is_fresh = True
        deadline = time.monotonic() + 60
        with pytest.raises(BrokersLost, match="recreate the client"):
            while time.monotonic() < deadline:
                client.poll(0.1)
        broker.is_fresh = False  # too late for this client, which asks no more
        with closing(make(settings(broker), report_ms=REPORT_MS)) as again:
            assert again.list_topics(TOPIC, timeout=20).brokers


@pytest.mark.parametrize("is_reading", [False, True])
def test_the_reader_of_tails_raises_whether_it_reads_or_waits(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, is_reading: bool
) -> None:
    own = settings(broker)

    def quickly(config: dict[str, Any], report_ms: int, *_: object) -> dict[str, Any]:
        assert report_ms
        return watched(config | own, REPORT_MS)

    monkeypatch.setattr(kafka_client, "watched", quickly)
    monkeypatch.setattr(kafka_tails, "REPORT_MS", REPORT_MS)
    tails = TailReader(KafkaAccess(broker.address), {"results": TOPIC}, 0, Wakeup())
    with closing(tails._consumer) as consumer:
        consumer.list_topics(TOPIC, timeout=20)
        broker.is_fresh = True
        if is_reading:
            tails.read(frozenset({"results"}))
        deadline = time.monotonic() + 60
        with pytest.raises(BrokersLost):
            while time.monotonic() < deadline:
                tails.collect(deque())
                time.sleep(0.01)


def test_a_broker_that_is_unavailable_is_not_lost(broker: FakeBroker) -> None:
    reports: list[str] = []
    config = watched(settings(broker), REPORT_MS)
    look = config["stats_cb"]

    def count(report: str) -> None:
        reports.append(report)
        look(report)

    with closing(Producer(config | {"stats_cb": count})) as client:
        client.list_topics(TOPIC, timeout=20)
        broker.close()
        known = len(reports)
        deadline = time.monotonic() + 60
        while len(reports) < known + 10:
            assert time.monotonic() < deadline
            client.poll(0.1)


UNWATCHED = {
    "journal_probe.py": "lives for one recovery, and is polled only to read a record",
    "partition_reader.py": "lives for one reading",
    "producer.py": "watched if its owner polls it; otherwise its owner renews it",
}


def test_every_client_of_a_service_is_watched_or_replaced() -> None:
    found = set()
    for path in [*ROOT.glob("shared/postjournal/**/*.py"), *ROOT.glob("services/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            assert not _makes_client(node) or path.name == "client.py"
            if _makes_unwatched(node):
                found.add(path.name)
    assert found == set(UNWATCHED)


def _makes_client(node: ast.AST) -> bool:
    names = ("Producer", "Consumer", "AdminClient")
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") in names


def _makes_unwatched(node: ast.AST) -> bool:
    """Any choice of `report_ms` but the default and a constant."""
    if not isinstance(node, ast.Call):
        return False
    if getattr(node.func, "id", "") not in ("make_consumer", "make_producer"):
        return False
    chosen = [*node.args[2:], *(word.value for word in node.keywords if word.arg == "report_ms")]
    return any(not isinstance(value, ast.Name) for value in chosen)


class SilentProducer:
    """A producer that never reports."""

    made = 0

    def __init__(self, settings: dict[str, Any]) -> None:
        type(self).made += 1

    def produce(self, *arguments: object, **named: object) -> None:
        pass

    def flush(self, timeout_s: float) -> int:
        return 1


def test_a_control_log_that_failed_tries_with_a_new_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SilentProducer, "made", 0)
    monkeypatch.setattr(kafka_client, "Producer", SilentProducer)
    log = ControlLog(KafkaAccess("b:1"), "t")
    for made in (1, 2):
        assert SilentProducer.made == made
        with pytest.raises(JournalUnavailable, match="no answer"):
            log.append(Handover(shard=0, successor=None, time=0))


class LostLog:
    """A shard's log whose client has lost its brokers."""

    def __init__(self, *arguments: object) -> None:
        pass

    def known_end(self) -> None:
        pass

    def poll(self, timeout_ms: int) -> list[Any]:
        raise BrokersLost("all brokers")

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **named: None


def test_an_engine_that_has_lost_the_brokers_ends_to_be_restarted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shard_module, "KafkaLog", LostLog)
    application = Ledger()
    topics = Topics.of("x", application.sources, application.sinks)
    addresses = Addresses(http="h:1", tripwire="h:2")
    configuration = Settings.from_environment({"POSTJOURNAL_BOOTSTRAP": "127.0.0.1:1"})
    shared = Shared(configuration, topics, application, addresses, None)
    runner = ShardRunner(shared, 0, StubParent(), ApplyGuard())
    assert not runner.run()  # not as requested, which the exit code shows
    runner._snapshots.cancel()  # a thread probes the journal until then


class SleepingConsumer:
    """A consumer; the broker of partition 0 does not answer."""

    def __init__(self) -> None:
        self.requests: list[int] = []

    def get_watermark_offsets(
        self, partition: TopicPartition, timeout: float, cached: bool
    ) -> tuple[int, int]:
        assert not cached
        self.requests.append(partition.partition)
        if partition.partition == 0:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return 0, 0


def test_every_partitions_broker_is_woken_even_when_one_does_not_answer() -> None:
    consumer: Any = SleepingConsumer()
    wake(consumer, [TopicPartition(TOPIC, number) for number in range(3)], 0.1)
    assert consumer.requests == [0, 1, 2]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (KafkaException(KafkaError(KafkaError._TIMED_OUT)), "t/0: Local: Timed out"),
        (BufferError("queue full"), "t/0: queue full"),
        (TimeoutError(), "t/0: no answer in time"),
    ],
)
def test_callers_see_our_own_errors_with_librdkafkas_text(error: Exception, text: str) -> None:
    with pytest.raises(JournalUnavailable) as raised, translated("t/0"):
        raise error
    assert str(raised.value) == text
