"""The auditor on a real journal, which two replicas and a SIGKILL have left on a real broker."""

from __future__ import annotations

import json
import signal
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests
from click.testing import CliRunner, Result
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.cli.local.ports import choose_ports
from postjournal.cli.main import main
from postjournal.core.fold import JournalState
from postjournal.core.records import Codec
from postjournal.ledger import Ledger
from postjournal.verify.audit_source import AuditSource
from tests.support.audited_shard import Json, Tape, audited, broken, deposit, opened, transfer
from tests.support.journal_damage import DAMAGES, accepted_entries, rechain
from tests.support.services import Service, eventually, running
from tests.support.topics import make_topics, retrying_producer

pytestmark = pytest.mark.kafka

ACCOUNTS = 20


def send(kafka: str, namespace: str, source: str, commands: list[object]) -> None:
    producer = retrying_producer(kafka)
    for command in commands:
        value = command if isinstance(command, bytes) else msgspec.json.encode(command)
        producer.produce(f"{namespace}.{source}", value, key=b"main", partition=0)
    assert producer.flush(60) == 0


def transfers(start: int, count: int) -> list[object]:
    return [
        transfer(f"a{n % ACCOUNTS}", f"a{(n * 7 + 1) % ACCOUNTS}", 1 + n % 50, f"t{n}")
        for n in range(start, start + count)
    ]


class Replicas:
    """Two replica processes of one namespace."""

    def __init__(self, kafka: str, namespace: str, folder: Path, stack: ExitStack) -> None:
        self._urls: dict[str, str] = {}
        self.processes: dict[str, Service] = {}
        for name in ("r1", "r2"):
            ports = choose_ports({"http": 7070, "tripwire": 7071}, prefer_wanted=False)
            self._urls[name] = f"http://127.0.0.1:{ports['http']}"
            environment = {
                "POSTJOURNAL_BOOTSTRAP": kafka,
                "POSTJOURNAL_NAMESPACE": namespace,
                "POSTJOURNAL_REPLICA": name,
                "POSTJOURNAL_ADVERTISE": "127.0.0.1",
                "POSTJOURNAL_HTTP_PORT": str(ports["http"]),
                "POSTJOURNAL_TRIPWIRE_PORT": str(ports["tripwire"]),
            }
            service = running("services.replica", folder / f"{name}.log", **environment)
            self.processes[name] = stack.enter_context(service)

    def state(self, name: str) -> Json:
        try:
            answer = requests.get(f"{self._urls[name]}/state", timeout=10)
        except requests.RequestException:
            return {"state": "gone", "seq": -1}
        shard: Json = answer.json()["shards"][0]
        return shard

    def leader(self) -> str | None:
        return next((n for n in self._urls if self.state(n)["state"] == "leader"), None)

    def wait_for_leader(self) -> str:
        found: list[str] = []

        def is_there() -> bool:
            leader = self.leader()
            found.extend([] if leader is None else [leader])
            return bool(found)

        eventually(is_there)
        return found[0]

    def reached(self, seq: int) -> bool:
        return all(
            self.state(name)["seq"] == seq
            for name, service in self.processes.items()
            if service.process.poll() is None
        )


class Results:
    """How many there are, without those that a deposed leader has published again."""

    def __init__(self, kafka: str, namespace: str) -> None:
        self._consumer = Consumer(kafka_settings.follower_consumer(kafka))
        self._consumer.assign([TopicPartition(f"{namespace}.results", 0, 0)])
        self._highest = -1
        self.close = self._consumer.close

    def count(self) -> int:
        for message in self._consumer.consume(1_000, 0.1):
            assert message.error() is None
            result = msgspec.json.decode(message.value() or b"")
            self._highest = max(self._highest, result["seq"])
        return self._highest + 1


def told(kafka: str, namespace: str) -> set[tuple[str, int]]:
    """Which replica has said that it is where."""
    surveyor = AuditSource(kafka, namespace, Ledger())
    with closing(surveyor):
        return {(said.status.replica, said.status.seq) for said in surveyor.audit_input(0, 1).said}


@pytest.fixture(scope="module")
def namespace() -> str:
    return f"audit-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def system(
    kafka: str, namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replicas]:
    """Has decided some hundred commands under two leaders, and still runs."""
    make_topics(kafka, namespace)
    with ExitStack() as stack:
        replicas = Replicas(kafka, namespace, tmp_path_factory.mktemp("replicas"), stack)
        replicas.wait_for_leader()
        results, decided = stack.enter_context(closing(Results(kafka, namespace))), 0

        def decide(source: str, *commands: object) -> None:
            """In entries of their own."""
            nonlocal decided
            send(kafka, namespace, source, list(commands))
            decided += len(commands)
            eventually(lambda: results.count() == decided)

        names = [f"a{n}" for n in range(ACCOUNTS)]
        decide("commands", *opened(*names))
        decide("feed", *[deposit(n, 10_000, f"d-{n}") for n in names])
        for start in range(0, 100, 20):
            decide("commands", *transfers(start, 20))
        decide("commands", b"no json", deposit("nobody", 1, "n1"), deposit("a1", 10_000, "d-a1"))
        first = replicas.wait_for_leader()
        replicas.processes[first].process.send_signal(signal.SIGKILL)
        replicas.processes[first].process.wait(60)
        for start in range(90, 190, 20):
            decide("feed", *transfers(start, 20))  # the first ten are repeats
        eventually(lambda: replicas.reached(decided))
        (survivor,) = {"r1", "r2"} - {first}
        eventually(lambda: (survivor, decided) in told(kafka, namespace))  # once a second
        yield replicas


def read(kafka: str, namespace: str) -> Tape:
    surveyor = AuditSource(kafka, namespace, Ledger())
    found = surveyor.audit_input(0, 1)
    surveyor.close()

    def rows(partition: Any) -> list[tuple[bytes | None, bytes]]:
        chunks = list(partition.chunks(0))
        return [row for c in chunks for row in zip(c.keys, c.values, strict=True)]

    def values(partition: Any) -> list[bytes]:
        return [value for _, value in rows(partition)]

    short = len(namespace) + 1
    return Tape(
        namespace,
        values(found.journal),
        {topic[short:]: rows(partition) for topic, partition in found.sources.items()},
        {name: values(sink.partition) for name, sink in found.sinks.items()},
        [said.status for said in found.said],
    )


def renamed(tape: Tape, namespace: str) -> Tape:
    """The same in another namespace: the topics' names stand in records, so hashes change."""
    entries, old = accepted_entries(tape), f'"{tape.namespace}.'.encode()
    new = f'"{namespace}.'.encode()
    copy = Tape(
        namespace,
        [value.replace(old, new) for value in tape.journal],
        {name: list(rows) for name, rows in tape.sources.items()},
        {name: [v.replace(old, new) for v in values] for name, values in tape.sinks.items()},
    )
    rechain(copy, entries, entries[0])
    digests = digests_of(copy)
    copy.statuses = [
        msgspec.structs.replace(status, digest=digests[status.seq]) for status in tape.statuses
    ]
    return copy


def digests_of(tape: Tape) -> dict[int, str]:
    codec: Codec[Any] = Codec(Json)
    fold = JournalState()
    found = {0: fold.digest}
    for offset, value in enumerate(tape.journal):
        fold.fold(offset, codec.decode(value), value)
        found[fold.next_seq] = fold.digest
    return found


def write(kafka: str, tape: Tape) -> None:
    make_topics(kafka, tape.namespace)
    producer = retrying_producer(kafka)

    def put(name: str, value: bytes, key: bytes | None = None) -> None:
        producer.produce(tape.topic(name), value, key=key, partition=0)

    for value in tape.journal:
        put("journal", value)
    for name, rows in tape.sources.items():
        for key, value in rows:
            put(name, value, key)
    for name, values in tape.sinks.items():
        for value in values:
            put(name, value)
    for status in tape.statuses:
        put("status", msgspec.json.encode(status))
    assert producer.flush(60) == 0


def verify(kafka: str, namespace: str, *arguments: str) -> Result:
    options = ["verify", "--bootstrap", kafka, "--namespace", namespace, *arguments]
    return CliRunner().invoke(main, options)


def test_a_running_system_is_sound(kafka: str, namespace: str, system: Replicas) -> None:
    result = verify(kafka, namespace, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    (shard,) = report["shards"]
    assert report["sound"]
    assert shard["epoch"] >= 2  # a busy machine may change the leader once more
    assert (shard["commands"], shard["repeated"]) == (2 * ACCOUNTS + 203, 11)
    assert shard["sinks"]["results"]["present"] == shard["commands"]
    assert shard["sinks"]["deadletter"]["present"] == 1
    (survivor,) = (name for name, each in system.processes.items() if each.is_alive)
    assert shard["replicas"][survivor] > 0


def test_damage_in_a_copy_of_a_real_journal_is_found_and_its_record_named(
    kafka: str, namespace: str, system: Replicas
) -> None:
    del system
    original = read(kafka, namespace)
    assert audited(original).sound
    for kind, plant in DAMAGES.items():
        tape = original.copy()
        rule, place = plant(tape)
        assert (rule.value, place) in broken(audited(tape)), kind


ON_BROKER = ("an_entry_is_missing", "an_amount_is_changed", "an_output_is_missing",
             "a_source_record_is_missing", "a_replica_holds_something_else")  # fmt: skip
"""All kinds would take a second each; what is found does not depend on where it is read from."""


@pytest.mark.parametrize("kind", [None, *ON_BROKER])
def test_damage_in_a_copy_on_a_real_broker_is_found_and_its_record_named(
    kafka: str, namespace: str, system: Replicas, kind: str | None
) -> None:
    del system
    tape = renamed(read(kafka, namespace), f"copy-{uuid.uuid4().hex[:8]}")
    expected = None
    if kind is not None:
        rule, place = DAMAGES[kind](tape)
        expected = (rule.value, place)
    write(kafka, tape)
    result = verify(kafka, tape.namespace, "--json")
    assert result.exit_code == (0 if kind is None else 1), result.output
    (shard,) = json.loads(result.stdout)["shards"]
    found = {
        (each["rule"], f"{each['topic']}/{each['partition']}@{each['offset']}")
        for each in shard["findings"]
    }
    assert found == set() if expected is None else expected in found


def test_what_people_read_names_the_record_and_the_rule(
    kafka: str, namespace: str, system: Replicas
) -> None:
    del system
    tape = renamed(read(kafka, namespace), f"copy-{uuid.uuid4().hex[:8]}")
    rule, place = DAMAGES["an_output_is_changed"](tape)
    write(kafka, tape)
    result = verify(kafka, tape.namespace)
    assert result.exit_code == 1
    assert f"{rule.value}: {place}" in result.stdout
    assert "damaged" in result.stdout


def test_a_check_that_cannot_be_made_is_told_apart_from_damage(kafka: str) -> None:
    result = verify(kafka, "nobody-here")
    assert result.exit_code == 2
    assert "there is no topic nobody-here.journal" in result.output
    assert verify(kafka, "x", "--app", "no.such:Thing").exit_code == 2


def test_a_journal_whose_beginning_is_deleted_is_refused(
    kafka: str, namespace: str, system: Replicas
) -> None:
    del system
    tape = renamed(read(kafka, namespace), f"copy-{uuid.uuid4().hex[:8]}")
    write(kafka, tape)
    admin = AdminClient({"bootstrap.servers": kafka})
    partition = TopicPartition(tape.topic("journal"), 0, 3)
    admin.delete_records([partition])[partition].result()
    result = verify(kafka, tape.namespace)
    assert result.exit_code == 2
    assert "begins at offset 3" in result.output
