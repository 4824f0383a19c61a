"""Which ledger a command is for: the query's `ledger`, or the body's own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from postjournal.core.sharding import shard_of
from services.producer.ports import NotAppended
from tests.support.gateway import DEPOSIT, OPEN, SHARDS, Setup, make_gateway, problem
from tests.support.openapi import described

ONE, BATCH = "/api/v1/commands", "/api/v1/commands/batch"
LONGEST = "x" * 128


@pytest.fixture
def world() -> Setup:
    return make_gateway()


def keys(world: Setup) -> list[str]:
    return [key.decode() for key, _, _ in world.log.appended]


@pytest.mark.parametrize("ledger", ["a", "größe", LONGEST])
def test_a_commands_ledger_is_its_key_and_no_part_of_the_record(world: Setup, ledger: str) -> None:
    response = world.post(OPEN | {"ledger": ledger}, Prefer="wait=1")
    shard = shard_of(ledger.encode(), SHARDS)
    assert response.json == {"id": "a1", "shard": shard, "offset": 0}
    assert world.log.appended == [(ledger.encode(), shard, OPEN)]
    assert world.results.expected == [(shard, "a1", 0)]


def test_each_command_of_a_batch_goes_to_its_own_ledger(world: Setup) -> None:
    ledgers = ["a", "b", "c", "d", "e"]
    batch = [DEPOSIT | {"ledger": ledger, "id": ledger} for ledger in ledgers]
    response = world.post([*batch, OPEN], BATCH)
    assert response.json is not None
    shards = [shard_of(key.encode(), SHARDS) for key in [*ledgers, "main"]]
    assert len(set(shards)) > 1
    assert [each["shard"] for each in response.json["commands"]] == shards
    assert keys(world) == [*ledgers, "main"]
    assert [shard for _, shard, _ in world.log.appended] == shards


def test_a_batch_that_kafka_took_in_part_tells_each_ones_shard(world: Setup) -> None:
    world.log.outcomes = {1: NotAppended("purged")}
    batch = [DEPOSIT | {"ledger": ledger} for ledger in ("a", "b", "c")]
    told = problem(world.post(batch, BATCH), 503, "outcome-unknown")["commands"]
    assert [each.get("shard") for each in told] == [
        shard_of(b"a", SHARDS),
        None,
        shard_of(b"c", SHARDS),
    ]


def test_the_querys_ledger_holds_for_those_that_name_none(world: Setup) -> None:
    batch = [DEPOSIT, DEPOSIT | {"ledger": "q"}]
    assert world.post(batch, f"{BATCH}?ledger=q").status_code == 202
    assert world.post(OPEN | {"ledger": "q"}, f"{ONE}?ledger=q").status_code == 202
    assert keys(world) == ["q", "q", "q"]


def test_query_and_body_that_name_different_ledgers_are_refused(world: Setup) -> None:
    other = OPEN | {"ledger": "other"}
    for refused in (
        world.post(other, f"{ONE}?ledger=q"),
        world.post([DEPOSIT, other], f"{BATCH}?ledger=q"),
    ):
        body = problem(refused, 400, "malformed-request")
        assert "ledger" in body["detail"]
        assert body["outcome"] == "not_accepted"
    assert body["detail"].startswith("command 1:")
    assert world.log.appended == []


@pytest.mark.parametrize("ledger", ["", LONGEST + "x", 7, None, True, ["a"], {"a": "b"}])
@pytest.mark.parametrize("query", ["", "?ledger=q"])
def test_a_ledger_that_can_be_no_key_is_a_422_that_names_the_field(
    world: Setup, ledger: Any, query: str
) -> None:
    bad = OPEN | {"ledger": ledger}
    body = problem(world.post(bad, f"{ONE}{query}"), 422, "invalid-command")
    assert (body["field"], body["outcome"]) == ("$.ledger", "not_accepted")
    body = problem(world.post([DEPOSIT, bad], f"{BATCH}{query}"), 422, "invalid-batch")
    (error,) = body["errors"]
    assert (error["index"], error["id"], error["field"]) == (1, "a1", "$.ledger")
    assert world.log.appended == []


@pytest.mark.parametrize("text", [rb'"\ud800"', rb'"\ud800 and more"', b'"\xff"'])
def test_a_ledger_that_is_no_text_is_a_400(world: Setup, text: bytes) -> None:
    body = json.dumps(OPEN).encode()[:-1] + b',"ledger":' + text + b"}"
    response = world.http.post(ONE, data=body, content_type="application/json")
    problem(response, 400, "malformed-request")
    assert world.log.appended == []


def test_the_document_tells_of_the_field(world: Setup) -> None:
    schemas = described(world.http.application)["components"]["schemas"]
    for name in ("Open", "Deposit", "Withdraw", "Transfer"):
        assert schemas[name]["properties"]["ledger"]["type"] == "string"
        assert "ledger" not in schemas[name]["required"]
