"""The replica process on a real Kafka: what it refuses, what it writes, poison commands."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import msgspec
import pytest
import requests
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from postjournal.adapters.kafka.admin import ensure_topics
from postjournal.cli.local.ports import choose_ports
from postjournal.cluster.topics import Topics

pytestmark = pytest.mark.kafka

Json = dict[str, Any]

KEEP_ALL = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}


@pytest.fixture
def namespace() -> str:
    return f"test-{uuid.uuid4().hex[:8]}"


class Process:
    """One replica process with its own ports."""

    def __init__(self, kafka: str, namespace: str, name: str, shards: int = 1) -> None:
        ports = choose_ports({"http": 7070, "tripwire": 7071}, prefer_wanted=False)
        self.http = ports["http"]
        environment = os.environ | {
            "POSTJOURNAL_BOOTSTRAP": kafka,
            "POSTJOURNAL_NAMESPACE": namespace,
            "POSTJOURNAL_REPLICA": name,
            "POSTJOURNAL_SHARDS": str(shards),
            "POSTJOURNAL_ADVERTISE": "127.0.0.1",
            "POSTJOURNAL_HTTP_PORT": str(self.http),
            "POSTJOURNAL_TRIPWIRE_PORT": str(ports["tripwire"]),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.replica"],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )

    def states(self) -> list[Json]:
        try:
            answer = requests.get(f"http://127.0.0.1:{self.http}/state", timeout=10)
        except requests.RequestException:
            return []
        shards: list[Json] = answer.json()["shards"]
        return shards

    def status(self, name: str) -> Any:
        """One field of its first shard's state; None when it does not answer."""
        states = self.states()
        return states[0][name] if states else None

    def metrics(self) -> str:
        """The metrics page."""
        return requests.get(f"http://127.0.0.1:{self.http}/metrics", timeout=10).text

    def end(self) -> str:
        """Stop the process and return its log."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.communicate(timeout=120)[1]


@contextmanager
def running(*processes: Process) -> Iterator[None]:
    try:
        yield
    finally:
        for replica in processes:
            if replica.process.poll() is None:
                replica.process.kill()
                replica.process.communicate()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def leads(process: Process, shards: int = 1) -> bool:
    return [state["state"] for state in process.states()] == ["leader"] * shards


def produce(kafka: str, topic: str, *values: bytes, partition: int = 0) -> None:
    producer = Producer({"bootstrap.servers": kafka, "enable.idempotence": True})
    for value in values:
        producer.produce(topic, value, b"main", partition)
    assert producer.flush(60) == 0


def read(kafka: str, topic: str, count: int, partition: int = 0) -> list[tuple[int, bytes]]:
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "test"})
    consumer.assign([TopicPartition(topic, partition, 0)])
    records: list[tuple[int, bytes]] = []
    deadline = time.monotonic() + 120
    while len(records) < count and time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            records.append((message.offset() or 0, message.value() or b""))
    consumer.close()
    return records


def read_all(kafka: str, topic: str) -> list[tuple[int, bytes]]:
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "test"})
    _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=60)
    consumer.close()
    return read(kafka, topic, end)


def independent_fold(records: list[tuple[int, bytes]]) -> Json:
    """The fold of docs/protocol.md, without the project's own code."""
    epoch, leader, alive_at, resigned, next_seq, digest = 0, None, -1, False, 0, "0" * 32
    for offset, value in records:
        record = msgspec.json.decode(value, type=Json)
        kind, current = record["kind"], record["epoch"] == epoch and leader and not resigned
        if kind == "claim" and record["epoch"] == epoch + 1 and record["seen"] >= alive_at:
            epoch, leader, alive_at = record["epoch"], record["incarnation"], offset
            resigned = False
        elif kind == "entry" and current and record["seq"] == next_seq:
            assert record["digest_before"] == digest
            alive_at, next_seq = offset, next_seq + len(record["batch"])
            digest = blake2b(digest.encode() + value, digest_size=16).hexdigest()
        elif kind == "heartbeat" and current and record["seq"] == next_seq:
            alive_at = offset
        elif kind == "resign" and record["epoch"] == epoch:
            alive_at, resigned = offset, True
    return {"epoch": epoch, "leader": leader, "seq": next_seq, "digest": digest}


def test_a_replica_that_waits_for_kafka_stops_on_sigterm(namespace: str) -> None:
    no_broker = f"127.0.0.1:{choose_ports({'kafka': 9092}, prefer_wanted=False)['kafka']}"
    replica = Process(no_broker, namespace, "a")
    with running(replica):
        assert replica.process.stderr is not None
        waiting = next(line for line in replica.process.stderr if "waiting for Kafka" in line)
        assert no_broker in waiting
        replica.end()
        assert replica.process.returncode == 0


def test_an_independent_fold_of_the_journal_gives_the_same_leader_epoch_and_seq(
    kafka: str, namespace: str
) -> None:
    first, second = Process(kafka, namespace, "a"), Process(kafka, namespace, "b")
    with running(first, second):
        wait_until(lambda: leads(first) or leads(second))
        opened = [
            msgspec.json.encode({"type": "open", "id": f"{n}", "account": f"account-{n}"})
            for n in range(50)
        ]
        produce(kafka, f"{namespace}.feed", *opened)
        wait_until(lambda: first.status("seq") == second.status("seq") == 50)
        leader, other = (first, second) if leads(first) else (second, first)
        in_sync = re.compile(r"^postjournal_standby_lag_records{.*} 0.0$", re.MULTILINE)
        wait_until(lambda: in_sync.search(other.metrics()) is not None)
        leader.process.kill()
        wait_until(lambda: leads(other))
        produce(kafka, f"{namespace}.commands", *opened)  # all of them repeats
        wait_until(lambda: other.status("seq") == 100)

        def agrees() -> bool:
            """True unless a claim was appended between the two reads."""
            state = other.states()[0]
            expected = {"epoch": state["epoch"], "leader": state["incarnation"]}
            expected |= {"seq": 100, "digest": state["digest"]}
            return independent_fold(read_all(kafka, f"{namespace}.journal")) == expected

        wait_until(agrees)


def test_poison_is_rejected_and_goes_to_the_dead_letters(kafka: str, namespace: str) -> None:
    process = Process(kafka, namespace, "a")
    poison = [
        b"\xff not json",
        b'{"type":"nonsense","id":"unknown-type"}',
        b'{"type":"deposit","id":"negative","account":"x","amount":-1}',
        b'{"type":"deposit","id":"huge","account":"x","amount":1e40}',
    ]
    with running(process):
        wait_until(lambda: leads(process))
        produce(kafka, f"{namespace}.commands", *poison, b'{"type":"open","id":"ok","account":"x"}')
        results = [msgspec.json.decode(v) for _, v in read(kafka, f"{namespace}.results", 5)]
        letters = [msgspec.json.decode(v) for _, v in read(kafka, f"{namespace}.deadletter", 4)]
    assert [result["status"] for result in results] == ["rejected"] * 4 + ["accepted"]
    assert {result["reason"] for result in results[:4]} == {"invalid"}
    ids = [f"{namespace}.commands/0@0", "unknown-type", "negative", "huge"]
    assert [letter["id"] for letter in letters] == [result["id"] for result in results[:4]] == ids
    assert [(letter["seq"], letter["offset"]) for letter in letters] == [(n, n) for n in range(4)]


def test_a_replica_with_another_number_of_shards_is_refused(kafka: str, namespace: str) -> None:
    process = Process(kafka, namespace, "a", shards=1)
    with running(process):
        wait_until(lambda: leads(process))
    wrong = Process(kafka, namespace, "b", shards=3)
    with running(wrong):
        log = wrong.process.communicate(timeout=120)[1]
    assert wrong.process.returncode == 78
    assert "POSTJOURNAL_SHARDS is 3" in log


def test_the_journals_topic_is_created_without_retention(kafka: str, namespace: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    topics = Topics.of(namespace, (), ())
    ensure_topics(admin, topics, shards=1, replication=1)
    resource = ConfigResource(ResourceType.TOPIC, topics.journal)
    found = admin.describe_configs([resource])[resource].result(timeout=60)
    assert {name: found[name].value for name in KEEP_ALL} == KEEP_ALL


@pytest.mark.parametrize(
    ("setting", "value"),
    [("retention.ms", "1000"), ("retention.bytes", "1000000"), ("cleanup.policy", "compact")],
)
def test_a_journal_topic_that_would_lose_records_is_refused(
    kafka: str, namespace: str, setting: str, value: str
) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    topic = NewTopic(f"{namespace}.journal", 1, 1, config=KEEP_ALL | {setting: value})
    admin.create_topics([topic])[f"{namespace}.journal"].result()
    process = Process(kafka, namespace, "a")
    with running(process):
        log = process.process.communicate(timeout=120)[1]
    assert process.process.returncode == 78
    assert f"{setting}={value}" in log
    assert "kafka-configs.sh" in log


def test_two_shards_are_led_and_decide_only_their_own_keys(kafka: str, namespace: str) -> None:
    process = Process(kafka, namespace, "a", shards=2)
    command = b'{"type":"open","id":"1","account":"x"}'
    with running(process):
        wait_until(lambda: leads(process, shards=2))
        for shard in (0, 1):  # the key `main` belongs to one of them only
            produce(kafka, f"{namespace}.commands", command, partition=shard)
        reasons = {
            msgspec.json.decode(read(kafka, f"{namespace}.results", 1, shard)[0][1])["reason"]
            for shard in (0, 1)
        }
    assert reasons == {None, "wrong_shard"}


def test_replicas_with_one_name_are_distinguished_by_their_incarnation(
    kafka: str, namespace: str
) -> None:
    twins = [Process(kafka, namespace, "twin") for _ in range(2)]
    with running(*twins):
        wait_until(lambda: sorted(map(leads, twins)) == [False, True])
        wait_until(lambda: {twin.status("state") for twin in twins} == {"leader", "standby"})
        produce(kafka, f"{namespace}.commands", b'{"type":"open","id":"1","account":"x"}')
        wait_until(lambda: [twin.status("seq") for twin in twins] == [1, 1])
        leader, other = twins if leads(twins[0]) else reversed(twins)
        leader.process.kill()
        wait_until(lambda: leads(other))


def test_a_stopped_leader_resigns(kafka: str, namespace: str) -> None:
    process = Process(kafka, namespace, "a")
    with running(process):
        wait_until(lambda: leads(process))
        assert "stopped" in process.end()
        assert process.process.returncode == 0
    journal = read_all(kafka, f"{namespace}.journal")
    epoch = independent_fold(journal)["epoch"]
    assert msgspec.json.decode(journal[-1][1]) == {"kind": "resign", "epoch": epoch}
