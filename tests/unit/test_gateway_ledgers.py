"""The ledger of a command: the query's `ledger`, or that of the body."""

from __future__ import annotations

import json
from typing import Any

import pytest

from postjournal.core.sharding import shard_of
from services.producer.ports import NotAppended
from tests.support.gateway import DEPOSIT, OPEN, SHARDS, GatewayUnderTest, make_gateway, problem
from tests.support.openapi import document_of

ONE, BATCH = "/api/v1/commands", "/api/v1/commands/batch"
LONGEST = "x" * 128


@pytest.fixture
def gateway() -> GatewayUnderTest:
    return make_gateway()


def keys(gateway: GatewayUnderTest) -> list[str]:
    return [key.decode() for key, _, _ in gateway.log.appended]


@pytest.mark.parametrize("ledger", ["a", "größe", LONGEST])
def test_a_commands_ledger_is_the_records_key_and_not_in_its_value(
    gateway: GatewayUnderTest, ledger: str
) -> None:
    response = gateway.post(OPEN | {"ledger": ledger}, Prefer="wait=1")
    shard = shard_of(ledger.encode(), SHARDS)
    assert response.json == {"id": "a1", "shard": shard, "offset": 0}
    assert gateway.log.appended == [(ledger.encode(), shard, OPEN)]
    assert gateway.results.expected == [(shard, "a1", 0)]


def test_each_command_of_a_batch_goes_to_its_own_ledger(gateway: GatewayUnderTest) -> None:
    ledgers = ["a", "b", "c", "d", "e"]
    batch = [DEPOSIT | {"ledger": ledger, "id": ledger} for ledger in ledgers]
    response = gateway.post([*batch, OPEN], BATCH)
    assert response.json is not None
    shards = [shard_of(key.encode(), SHARDS) for key in [*ledgers, "main"]]
    assert len(set(shards)) > 1
    assert [command["shard"] for command in response.json["commands"]] == shards
    assert keys(gateway) == [*ledgers, "main"]
    assert [shard for _, shard, _ in gateway.log.appended] == shards


def test_a_batch_that_kafka_accepted_in_part_has_the_shard_of_each_accepted_command(
    gateway: GatewayUnderTest,
) -> None:
    gateway.log.outcomes = {1: NotAppended("purged")}
    batch = [DEPOSIT | {"ledger": ledger} for ledger in ("a", "b", "c")]
    commands = problem(gateway.post(batch, BATCH), 503, "outcome-unknown")["commands"]
    assert [command.get("shard") for command in commands] == [
        shard_of(b"a", SHARDS),
        None,
        shard_of(b"c", SHARDS),
    ]


def test_the_querys_ledger_is_that_of_commands_without_one(gateway: GatewayUnderTest) -> None:
    batch = [DEPOSIT, DEPOSIT | {"ledger": "q"}]
    assert gateway.post(batch, f"{BATCH}?ledger=q").status_code == 202
    assert gateway.post(OPEN | {"ledger": "q"}, f"{ONE}?ledger=q").status_code == 202
    assert keys(gateway) == ["q", "q", "q"]


def test_different_ledgers_in_query_and_body_are_refused(gateway: GatewayUnderTest) -> None:
    other = OPEN | {"ledger": "other"}
    for refused in (
        gateway.post(other, f"{ONE}?ledger=q"),
        gateway.post([DEPOSIT, other], f"{BATCH}?ledger=q"),
    ):
        body = problem(refused, 400, "malformed-request")
        assert "ledger" in body["detail"]
        assert body["outcome"] == "not_accepted"
    assert body["detail"].startswith("command 1:")
    assert gateway.log.appended == []


@pytest.mark.parametrize("ledger", ["", LONGEST + "x", 7, None, True, ["a"], {"a": "b"}])
@pytest.mark.parametrize("query", ["", "?ledger=q"])
def test_a_ledger_that_is_not_a_valid_key_is_a_422_that_names_the_field(
    gateway: GatewayUnderTest, ledger: Any, query: str
) -> None:
    bad = OPEN | {"ledger": ledger}
    body = problem(gateway.post(bad, f"{ONE}{query}"), 422, "invalid-command")
    assert (body["field"], body["outcome"]) == ("$.ledger", "not_accepted")
    body = problem(gateway.post([DEPOSIT, bad], f"{BATCH}{query}"), 422, "invalid-batch")
    (error,) = body["errors"]
    assert (error["index"], error["id"], error["field"]) == (1, "a1", "$.ledger")
    assert gateway.log.appended == []


@pytest.mark.parametrize("text", [rb'"\ud800"', rb'"\ud800 and more"', b'"\xff"'])
def test_a_ledger_that_is_not_unicode_is_a_400(gateway: GatewayUnderTest, text: bytes) -> None:
    body = json.dumps(OPEN).encode()[:-1] + b',"ledger":' + text + b"}"
    response = gateway.http.post(ONE, data=body, content_type="application/json")
    problem(response, 400, "malformed-request")
    assert gateway.log.appended == []


def test_the_openapi_document_has_the_field(gateway: GatewayUnderTest) -> None:
    schemas = document_of(gateway.http.application)["components"]["schemas"]
    for name in ("Open", "Deposit", "Withdraw", "Transfer"):
        assert schemas[name]["properties"]["ledger"]["type"] == "string"
        assert "ledger" not in schemas[name]["required"]
