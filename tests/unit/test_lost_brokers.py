"""A client that has lost all its brokers is noticed, and replaced or its process restarted."""

from __future__ import annotations

import ast
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer

from postjournal.adapters.kafka import control_log
from postjournal.adapters.kafka import sink as kafka_sink
from postjournal.adapters.kafka.client import watched
from postjournal.adapters.kafka.control_log import ControlLog
from postjournal.adapters.kafka.sink import TailReader
from postjournal.cluster.status import Handover
from postjournal.cluster.topics import Topics
from postjournal.config.settings import Settings
from postjournal.core.errors import BrokersLost, JournalUnavailable
from postjournal.ledger import Ledger
from services.replica import shard as shard_module
from services.replica.shard import Addresses, ShardRunner, Shared
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


@pytest.mark.parametrize("make", [Producer, Consumer])
def test_a_client_without_brokers_says_so(
    broker: FakeBroker, make: Callable[[dict[str, Any]], Client]
) -> None:
    with closing(make(watched(settings(broker), REPORT_MS))) as client:
        client.list_topics(TOPIC, timeout=20)
        broker.is_fresh = True
        deadline = time.monotonic() + 60
        with pytest.raises(BrokersLost, match="a new one is needed"):
            while time.monotonic() < deadline:
                client.poll(0.1)
        broker.is_fresh = False  # too late for this client, which asks no more
        with closing(make(watched(settings(broker), REPORT_MS))) as again:
            assert again.list_topics(TOPIC, timeout=20).brokers


@pytest.mark.parametrize("is_reading", [False, True])
def test_the_reader_of_tails_says_so_whatever_it_does(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, is_reading: bool
) -> None:
    own = settings(broker)

    def quickly(config: dict[str, Any]) -> dict[str, Any]:
        return watched(config | own, REPORT_MS)

    monkeypatch.setattr(kafka_sink, "watched", quickly)
    monkeypatch.setattr(kafka_sink, "REPORT_MS", REPORT_MS)
    tails = TailReader(broker.address, {"results": TOPIC}, 0)
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


def test_a_broker_that_is_away_is_not_lost(broker: FakeBroker) -> None:
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


REPLACED_OTHERWISE = {
    "control_log.py": "replaced whenever it fails",
    "journal_probe.py": "lives for one question",
    "journal_trimmer.py": "lives for one request",
    "admin.py": "lives for the start of a process",
    "partition_reader.py": "lives for one reading",
    "kafka_commands.py": "replaced when no broker has answered for some seconds",
}


def test_every_client_of_a_service_is_watched_or_replaced() -> None:
    found = set()
    for path in [*ROOT.glob("shared/postjournal/adapters/**/*.py"), *ROOT.glob("services/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if _makes_client(node) and not _is_watched(node):
                found.add(path.name)
    assert found == set(REPLACED_OTHERWISE)


def _makes_client(node: ast.AST) -> bool:
    names = ("Producer", "Consumer", "AdminClient")
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") in names


def _is_watched(node: ast.AST) -> bool:
    assert isinstance(node, ast.Call)
    inner = (getattr(each, "func", None) for each in ast.walk(node.args[0]))
    return any(getattr(each, "id", "") == "watched" for each in inner)


class Mute:
    """A producer that never reports."""

    made = 0

    def __init__(self, settings: dict[str, Any]) -> None:
        type(self).made += 1

    def produce(self, *arguments: object, **named: object) -> None:
        pass

    def flush(self, timeout_s: float) -> None:
        pass


def test_a_control_log_that_failed_tries_with_a_new_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Mute, "made", 0)
    monkeypatch.setattr(control_log, "Producer", Mute)
    log = ControlLog("b:1", "t")
    for made in (1, 2):
        assert Mute.made == made
        with pytest.raises(JournalUnavailable, match="does not answer"):
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


def test_a_replica_that_lost_the_brokers_ends_to_be_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shard_module, "KafkaLog", LostLog)
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *arguments: sent.append(arguments))
    application = Ledger()
    topics = Topics.of("x", application.sources, application.sinks)
    addresses = Addresses(http="h:1", tripwire="h:2")
    configuration = Settings.from_environment({"POSTJOURNAL_BOOTSTRAP": "127.0.0.1:1"})
    runner = ShardRunner(Shared(configuration, topics, application, addresses, None), 0)
    runner.start()
    assert not runner.join(60)  # not as asked: the exit code tells it
    assert sent == [(os.getpid(), signal.SIGTERM)]
    # What ends with the process, in a replica: a thread asks for the journal's bounds until then.
    runner._snapshots.give_up()
    runner._say.close()
