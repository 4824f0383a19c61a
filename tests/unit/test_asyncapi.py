"""The AsyncAPI document describes the records that are in the topics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from postjournal.cluster.status import Handover, SnapshotOrder
from postjournal.cluster.topics import Topics
from postjournal.ledger import Ledger
from services.asyncapi import document
from tests.support.audited_shard import ShardRecords, eventful
from tests.support.coordinator import replica_status
from tests.support.openapi import validate

DOCUMENT = document(Ledger(), "ledger", 1)


def payload(name: str) -> dict[str, Any]:
    """The schema of the records of a topic, by its short name."""
    reference = DOCUMENT["channels"][name]["messages"][name]["$ref"]
    assert reference == f"#/components/messages/{name}"
    found: dict[str, Any] = DOCUMENT["components"]["messages"][name]["payload"]
    return found


def check(name: str, values: Iterable[bytes]) -> None:
    count = 0
    for value in values:
        validate(DOCUMENT, payload(name), msgspec.json.decode(value))
        count += 1
    assert count


@pytest.fixture(scope="module")
def records() -> ShardRecords:
    return eventful()


def test_every_topic_is_a_channel() -> None:
    topics = Topics.of("ledger", Ledger.sources, Ledger().sinks)
    addresses = [channel["address"] for channel in DOCUMENT["channels"].values()]
    assert sorted(addresses) == sorted(topics.all)


def test_journal_records_and_outputs_match_their_schemas(records: ShardRecords) -> None:
    check("journal", records.journal)
    for sink in ("results", "balances", "deadletter"):
        check(sink, records.sinks[sink])


def test_commands_match_their_schemas(records: ShardRecords) -> None:
    check("commands", [value for _, value in records.sources["commands"]])
    with pytest.raises(AssertionError):
        check("feed", [b'{"type":"deposit","id":"x","account":"a","amount":0}'])


def test_status_and_control_records_match_their_schemas() -> None:
    statuses = (replica_status("r1"), replica_status("r1", last_end="killed by SIGKILL", pid=0))
    check("status", map(msgspec.json.encode, statuses))
    assert "last_end" in DOCUMENT["components"]["schemas"]["ReplicaStatus"]["properties"]
    order = SnapshotOrder(id="s", shard=0, replica="r1", attempt=1, asked=1, time=1)
    check("control", map(msgspec.json.encode, (Handover(shard=0, time=1), order)))


def test_every_field_of_an_output_is_described(records: ShardRecords) -> None:
    for sink, name in (("results", "Result"), ("balances", "Balance")):
        properties = DOCUMENT["components"]["schemas"][name]["properties"]
        assert msgspec.json.decode(records.sinks[sink][0]).keys() == properties.keys()


def test_a_record_of_another_kind_does_not_match(records: ShardRecords) -> None:
    record = msgspec.json.decode(records.journal[0])
    for change in ({"kind": "other"}, {"epoch": "1"}):
        with pytest.raises(AssertionError):
            check("journal", [msgspec.json.encode(record | change)])
