"""The auditor on a real journal of two replicas, one of which was killed, on a real broker."""

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
from postjournal.config.settings import KafkaAccess
from postjournal.core.fold import JournalState
from postjournal.core.records import Codec
from postjournal.ledger import Ledger
from postjournal.verify.audit_source import AuditSource
from tests.support.audited_shard import (
    Json,
    ShardRecords,
    audited,
    broken,
    deposit,
    opened,
    transfer,
)
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
            return {"state": "unreachable", "seq": -1}
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
    """Counts the results, without those that a deposed leader has published again."""

    def __init__(self, kafka: str, namespace: str) -> None:
        self._consumer = Consumer(kafka_settings.follower_consumer(KafkaAccess(kafka)))
        self._consumer.assign([TopicPartition(f"{namespace}.results", 0, 0)])
        self._highest = -1
        self.close = self._consumer.close

    def count(self) -> int:
        for message in self._consumer.consume(1_000, 0.1):
            assert message.error() is None
            result = msgspec.json.decode(message.value() or b"")
            self._highest = max(self._highest, result["seq"])
        return self._highest + 1


def reported(kafka: str, namespace: str) -> set[tuple[str, int]]:
    """(replica, seq) of every status record."""
    with closing(AuditSource(KafkaAccess(kafka), namespace, Ledger())) as source:
        reports = source.audit_input(0, 1).reported
        return {(report.status.replica, report.status.seq) for report in reports}


@pytest.fixture(scope="module")
def namespace() -> str:
    return f"audit-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def system(
    kafka: str, namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replicas]:
    """A running system that has decided some hundred commands under two leaders."""
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
        decide("commands", b"no json", deposit("unknown", 1, "n1"), deposit("a1", 10_000, "d-a1"))
        first = replicas.wait_for_leader()
        replicas.processes[first].process.send_signal(signal.SIGKILL)
        replicas.processes[first].process.wait(60)
        for start in range(90, 190, 20):
            decide("feed", *transfers(start, 20))  # the first ten are repeats
        eventually(lambda: replicas.reached(decided))
        (survivor,) = {"r1", "r2"} - {first}
        eventually(lambda: (survivor, decided) in reported(kafka, namespace))  # once a second
        yield replicas


def read(kafka: str, namespace: str) -> ShardRecords:
    with closing(AuditSource(KafkaAccess(kafka), namespace, Ledger())) as source:
        found = source.audit_input(0, 1)

    def rows(partition: Any) -> list[tuple[bytes | None, bytes]]:
        chunks = list(partition.chunks(0))
        return [row for c in chunks for row in zip(c.keys, c.values, strict=True)]

    def values(partition: Any) -> list[bytes]:
        return [value for _, value in rows(partition)]

    short = len(namespace) + 1
    return ShardRecords(
        namespace,
        values(found.journal),
        {topic[short:]: rows(partition) for topic, partition in found.sources.items()},
        {name: values(sink.partition) for name, sink in found.sinks.items()},
        [report.status for report in found.reported],
    )


def renamed(records: ShardRecords, namespace: str) -> ShardRecords:
    """The same in another namespace: records contain topic names, so the hashes change."""
    entries, old = accepted_entries(records), f'"{records.namespace}.'.encode()
    new = f'"{namespace}.'.encode()
    copy = ShardRecords(
        namespace,
        [value.replace(old, new) for value in records.journal],
        {name: list(rows) for name, rows in records.sources.items()},
        {name: [v.replace(old, new) for v in values] for name, values in records.sinks.items()},
    )
    rechain(copy, entries, entries[0])
    digests = digests_of(copy)
    copy.statuses = [
        msgspec.structs.replace(status, digest=digests[status.seq]) for status in records.statuses
    ]
    return copy


def digests_of(records: ShardRecords) -> dict[int, str]:
    codec: Codec[Any] = Codec(Json)
    fold = JournalState()
    found = {0: fold.digest}
    for offset, value in enumerate(records.journal):
        fold.fold(offset, codec.decode(value), value)
        found[fold.next_seq] = fold.digest
    return found


def write(kafka: str, records: ShardRecords) -> None:
    make_topics(kafka, records.namespace)
    producer = retrying_producer(kafka)

    def put(name: str, value: bytes, key: bytes | None = None) -> None:
        producer.produce(records.topic(name), value, key=key, partition=0)

    for value in records.journal:
        put("journal", value)
    for name, rows in records.sources.items():
        for key, value in rows:
            put(name, value, key)
    for name, values in records.sinks.items():
        for value in values:
            put(name, value)
    for status in records.statuses:
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
    (survivor,) = (name for name, service in system.processes.items() if service.is_alive)
    assert shard["replicas"][survivor] > 0


def test_damage_in_a_copy_of_a_real_journal_is_found_and_its_record_named(
    kafka: str, namespace: str, system: Replicas
) -> None:
    del system
    original = read(kafka, namespace)
    assert audited(original).sound
    for kind, plant in DAMAGES.items():
        records = original.copy()
        rule, location = plant(records)
        assert (rule.value, location) in broken(audited(records)), kind


ON_BROKER = ("an_entry_is_missing", "an_amount_is_changed", "an_output_is_missing",
             "a_source_record_is_missing", "a_replica_reports_another_digest")  # fmt: skip
"""All kinds would take a second each; the findings do not depend on where records are read from."""


@pytest.mark.parametrize("kind", [None, *ON_BROKER])
def test_damage_in_a_copy_on_a_real_broker_is_found_and_its_record_named(
    kafka: str, namespace: str, system: Replicas, kind: str | None
) -> None:
    del system
    records = renamed(read(kafka, namespace), f"copy-{uuid.uuid4().hex[:8]}")
    expected = None
    if kind is not None:
        rule, location = DAMAGES[kind](records)
        expected = (rule.value, location)
    write(kafka, records)
    result = verify(kafka, records.namespace, "--json")
    assert result.exit_code == (0 if kind is None else 1), result.output
    (shard,) = json.loads(result.stdout)["shards"]
    found = {
        (finding["rule"], f"{finding['topic']}/{finding['partition']}@{finding['offset']}")
        for finding in shard["findings"]
    }
    assert found == set() if expected is None else expected in found


def test_the_printed_report_names_the_record_and_the_rule(
    kafka: str, namespace: str, system: Replicas
) -> None:
    del system
    records = renamed(read(kafka, namespace), f"copy-{uuid.uuid4().hex[:8]}")
    rule, location = DAMAGES["an_output_is_changed"](records)
    write(kafka, records)
    result = verify(kafka, records.namespace)
    assert result.exit_code == 1
    assert f"{rule.value}: {location}" in result.stdout
    assert "damaged" in result.stdout


def test_an_audit_that_cannot_run_has_another_exit_code_than_damage(kafka: str) -> None:
    result = verify(kafka, "no-such-namespace")
    assert result.exit_code == 2
    assert "topic no-such-namespace.journal does not exist" in result.output
    assert verify(kafka, "x", "--app", "no.such:Thing").exit_code == 2


def test_a_journal_whose_beginning_is_deleted_is_refused(
    kafka: str, namespace: str, system: Replicas
) -> None:
    del system
    records = renamed(read(kafka, namespace), f"copy-{uuid.uuid4().hex[:8]}")
    write(kafka, records)
    admin = AdminClient({"bootstrap.servers": kafka})
    partition = TopicPartition(records.topic("journal"), 0, 3)
    admin.delete_records([partition])[partition].result()
    result = verify(kafka, records.namespace)
    assert result.exit_code == 2
    assert "begins at offset 3" in result.output
