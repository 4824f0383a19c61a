"""The replica process on a real Kafka: what it refuses, what it writes, poison commands."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from postjournal.adapters.kafka.admin import ensure_topics
from postjournal.adapters.kafka.topic_settings import TopicPlan
from postjournal.cli.local.ports import choose_ports
from postjournal.cluster.topics import Topics
from tests.support.services import Service, eventually
from tests.support.topics import publish, read, read_json

pytestmark = pytest.mark.kafka

Json = dict[str, Any]

OPEN = b'{"type":"open","id":"1","account":"x"}'
KEEP_ALL = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}


@pytest.fixture
def namespace() -> str:
    return f"test-{uuid.uuid4().hex[:8]}"


class Replica:
    """One replica process with its own ports."""

    def __init__(self, kafka: str, namespace: str, name: str, shards: int, output: Path) -> None:
        ports = choose_ports({"http": 7070, "tripwire": 7071}, prefer_wanted=False)
        self.url = f"http://127.0.0.1:{ports['http']}"
        environment = {
            "POSTJOURNAL_BOOTSTRAP": kafka,
            "POSTJOURNAL_NAMESPACE": namespace,
            "POSTJOURNAL_REPLICA": name,
            "POSTJOURNAL_SHARDS": str(shards),
            "POSTJOURNAL_ADVERTISE": "127.0.0.1",
            "POSTJOURNAL_HTTP_PORT": str(ports["http"]),
            "POSTJOURNAL_TRIPWIRE_PORT": str(ports["tripwire"]),
        }
        self.service = Service("services.replica", output, environment)

    def states(self) -> list[Json]:
        try:
            answer = requests.get(f"{self.url}/state", timeout=10)
        except requests.RequestException:
            return []
        shards: list[Json] = answer.json()["shards"]
        return shards

    def status(self, name: str) -> Any:
        """One field of its first shard's state; None when it does not answer."""
        states = self.states()
        return states[0][name] if states else None

    def metrics(self) -> str:
        return requests.get(f"{self.url}/metrics", timeout=10).text

    def leads(self, shards: int = 1) -> bool:
        return [shard["state"] for shard in self.states()] == ["leader"] * shards


Start = Callable[..., Replica]


@pytest.fixture
def start(kafka: str, namespace: str, tmp_path: Path) -> Iterator[Start]:
    """Starts a replica of the namespace; all of them are killed at the end."""
    replicas: list[Replica] = []

    def started(name: str, *, bootstrap: str = kafka, shards: int = 1) -> Replica:
        output = tmp_path / f"{len(replicas)}.log"
        replicas.append(Replica(bootstrap, namespace, name, shards, output))
        return replicas[-1]

    yield started
    for replica in replicas:
        if replica.service.is_alive:
            replica.service.kill()


def records(kafka: str, topic: str) -> list[tuple[int, bytes]]:
    """The offsets and values of the whole topic."""
    messages = read(kafka, topic)
    return [(message.offset() or 0, message.value() or b"") for message in messages]


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


def test_a_replica_that_waits_for_kafka_stops_on_sigterm(start: Start) -> None:
    no_broker = f"127.0.0.1:{choose_ports({'kafka': 9092}, prefer_wanted=False)['kafka']}"
    replica = start("a", bootstrap=no_broker)
    eventually(lambda: re.search(f"waiting for Kafka.*{no_broker}", replica.service.log))
    assert replica.service.terminate() == 0


def test_an_independent_fold_of_the_journal_gives_the_same_leader_epoch_and_seq(
    kafka: str, namespace: str, start: Start
) -> None:
    first, second = start("a"), start("b")
    eventually(lambda: first.leads() or second.leads())
    opened = [
        msgspec.json.encode({"type": "open", "id": f"{n}", "account": f"account-{n}"})
        for n in range(50)
    ]
    publish(kafka, f"{namespace}.feed", opened, key=b"main")
    eventually(lambda: first.status("seq") == second.status("seq") == 50)
    leader, other = (first, second) if first.leads() else (second, first)
    in_sync = re.compile(r"^postjournal_standby_lag_records{.*} 0.0$", re.MULTILINE)
    eventually(lambda: in_sync.search(other.metrics()) is not None)
    leader.service.kill()
    eventually(other.leads)
    publish(kafka, f"{namespace}.commands", opened, key=b"main")  # all of them repeats
    eventually(lambda: other.status("seq") == 100)

    def agrees() -> bool:
        """True unless a claim was appended between the two reads."""
        state = other.states()[0]
        expected = {"epoch": state["epoch"], "leader": state["incarnation"]}
        expected |= {"seq": 100, "digest": state["digest"]}
        return independent_fold(records(kafka, f"{namespace}.journal")) == expected

    eventually(agrees)


def test_poison_is_rejected_and_goes_to_the_dead_letters(
    kafka: str, namespace: str, start: Start
) -> None:
    replica = start("a")
    poison = [
        b"\xff not json",
        b'{"type":"nonsense","id":"unknown-type"}',
        b'{"type":"deposit","id":"negative","account":"x","amount":-1}',
        b'{"type":"deposit","id":"huge","account":"x","amount":1e40}',
    ]
    eventually(replica.leads)
    publish(kafka, f"{namespace}.commands", [*poison, OPEN], key=b"main")
    results = read_json(kafka, f"{namespace}.results", 5)[:5]
    letters = read_json(kafka, f"{namespace}.deadletter", 4)[:4]
    assert [result["status"] for result in results] == ["rejected"] * 4 + ["accepted"]
    assert {result["reason"] for result in results[:4]} == {"invalid"}
    ids = [f"{namespace}.commands/0@0", "unknown-type", "negative", "huge"]
    assert [letter["id"] for letter in letters] == [result["id"] for result in results[:4]] == ids
    assert [(letter["seq"], letter["offset"]) for letter in letters] == [(n, n) for n in range(4)]


def test_a_replica_with_another_number_of_shards_is_refused(start: Start) -> None:
    replica = start("a", shards=1)
    eventually(replica.leads)
    replica.service.kill()
    wrong = start("b", shards=3)
    assert wrong.service.process.wait(120) == 78
    assert "POSTJOURNAL_SHARDS is 3" in wrong.service.log


def test_the_journals_topic_is_created_without_retention(kafka: str, namespace: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    topics = Topics.of(namespace, (), ())
    ensure_topics(admin, topics, TopicPlan(shards=1, replication=1))
    resource = ConfigResource(ResourceType.TOPIC, topics.journal)
    found = admin.describe_configs([resource])[resource].result(timeout=60)
    assert {name: found[name].value for name in KEEP_ALL} == KEEP_ALL


@pytest.mark.parametrize(
    ("setting", "value"),
    [("retention.ms", "1000"), ("retention.bytes", "1000000"), ("cleanup.policy", "compact")],
)
def test_a_journal_topic_that_would_lose_records_is_refused(
    kafka: str, namespace: str, start: Start, setting: str, value: str
) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    topic = NewTopic(f"{namespace}.journal", 1, 1, config=KEEP_ALL | {setting: value})
    admin.create_topics([topic])[f"{namespace}.journal"].result()
    service = start("a").service
    assert service.process.wait(120) == 78
    assert f"{setting}={value}" in service.log
    assert "kafka-configs.sh" in service.log


def test_two_shards_are_led_and_decide_only_their_own_keys(
    kafka: str, namespace: str, start: Start
) -> None:
    replica = start("a", shards=2)
    eventually(lambda: replica.leads(shards=2))
    for shard in (0, 1):  # the key `main` belongs to one of them only
        publish(kafka, f"{namespace}.commands", [OPEN], shard, key=b"main")
    reasons = {read_json(kafka, f"{namespace}.results", 1, shard)[0]["reason"] for shard in (0, 1)}
    assert reasons == {None, "wrong_shard"}


def test_replicas_with_one_name_are_distinguished_by_their_incarnation(
    kafka: str, namespace: str, start: Start
) -> None:
    twins = [start("twin") for _ in range(2)]
    eventually(lambda: sorted(twin.leads() for twin in twins) == [False, True])
    eventually(lambda: {twin.status("state") for twin in twins} == {"leader", "standby"})
    publish(kafka, f"{namespace}.commands", [OPEN], key=b"main")
    eventually(lambda: [twin.status("seq") for twin in twins] == [1, 1])
    leader, other = twins if twins[0].leads() else reversed(twins)
    leader.service.kill()
    eventually(other.leads)


def test_a_stopped_leader_resigns(kafka: str, namespace: str, start: Start) -> None:
    replica = start("a")
    eventually(replica.leads)
    assert replica.service.terminate() == 0
    assert "stopped" in replica.service.log
    journal = records(kafka, f"{namespace}.journal")
    epoch = independent_fold(journal)["epoch"]
    assert msgspec.json.decode(journal[-1][1]) == {"kind": "resign", "epoch": epoch}
