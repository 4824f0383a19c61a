"""Commands over the gateway's HTTP interface: accepted, refused, and what the answers contain."""

from __future__ import annotations

import json
from typing import Any

import pytest

from postjournal.core.sharding import shard_of
from services.producer.parsing import MAX_BATCH_KEY_LENGTH
from services.producer.ports import NotAppended, Outcome, TooBusy, Unavailable, Unknown
from tests.support.gateway import DEPOSIT, OPEN, SHARDS, GatewayUnderTest, make_gateway, problem


@pytest.fixture
def gateway() -> GatewayUnderTest:
    return make_gateway()


# --- one command ----------------------------------------------------------------------------


def test_a_command_is_accepted_with_its_shard_and_offset(gateway: GatewayUnderTest) -> None:
    response = gateway.post(OPEN)
    shard = shard_of(b"main", SHARDS)
    assert response.status_code == 202
    assert response.json == {"id": "a1", "shard": shard, "offset": 0}
    assert gateway.log.appended == [(b"main", shard, OPEN)]


def test_the_ledger_selects_the_shard_and_is_the_records_key(gateway: GatewayUnderTest) -> None:
    for ledger in ("eins", "zwei", "größe"):
        gateway.http.post("/api/v1/commands", query_string={"ledger": ledger}, json=OPEN)
    keys = [(key.decode(), shard) for key, shard, _ in gateway.log.appended]
    assert keys == [(key, shard_of(key.encode(), SHARDS)) for key, _ in keys]
    assert [key for key, _ in keys] == ["eins", "zwei", "größe"]


def test_the_idempotency_key_becomes_the_commands_id(gateway: GatewayUnderTest) -> None:
    for header in ("k-1", '"k-1"'):
        assert gateway.post(DEPOSIT, Idempotency_Key=header).json["id"] == "k-1"  # type: ignore[index]
    assert [value["id"] for _, _, value in gateway.log.appended] == ["k-1", "k-1"]


def test_a_command_without_an_id_gets_a_new_one_each_time(gateway: GatewayUnderTest) -> None:
    ids = {gateway.post(DEPOSIT).json["id"] for _ in range(2)}  # type: ignore[index]
    assert len(ids) == 2
    assert all(len(command_id) == 32 for command_id in ids)


def test_different_ids_in_header_and_body_are_refused(gateway: GatewayUnderTest) -> None:
    body = problem(gateway.post(OPEN, Idempotency_Key="b2"), 400, "malformed-request")
    assert body["outcome"] == "not_accepted"
    assert gateway.log.appended == []
    assert gateway.post(OPEN, Idempotency_Key="a1").status_code == 202


@pytest.mark.parametrize("key", ["", '""', "x" * 129, "tab\there"])
def test_an_idempotency_key_that_is_not_a_valid_id_is_refused(
    gateway: GatewayUnderTest, key: str
) -> None:
    problem(gateway.post(DEPOSIT, Idempotency_Key=key), 400, "malformed-request")


@pytest.mark.parametrize("body", [b"", b"{", b'{"type":"open"', b"\xff", b"{} x", b"NaN"])
def test_malformed_json_is_a_400(gateway: GatewayUnderTest, body: bytes) -> None:
    response = gateway.http.post("/api/v1/commands", data=body, content_type="application/json")
    problem(response, 400, "malformed-request")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"type": "nope"}, "$.type"),
        ({"amount": 0}, "$.amount"),
        ({"amount": -1}, "$.amount"),
        ({"amount": 1.5}, "$.amount"),
        ({"amount": 2**53}, "$.amount"),
        ({"amount": 10**40}, "$.amount"),
        ({"amount": True}, "$.amount"),
        ({"amount": "5"}, "$.amount"),
        ({"account": ""}, "$.account"),
        ({"account": "a" * 129}, "$.account"),
        ({"id": ""}, "$.id"),
        ({"id": "i" * 129}, "$.id"),
        ({"id": 7}, "$.id"),
        ({"id": None}, "$.id"),
    ],
)
def test_an_invalid_command_is_a_422_that_names_the_field(
    gateway: GatewayUnderTest, change: dict[str, Any], field: str
) -> None:
    body = problem(gateway.post(DEPOSIT | change), 422, "invalid-command")
    assert body["field"] == field
    assert body["outcome"] == "not_accepted"
    assert gateway.log.appended == []


@pytest.mark.parametrize("body", [[], "open", 7, False, {}])
def test_json_that_is_not_a_command_is_a_422(gateway: GatewayUnderTest, body: object) -> None:
    problem(gateway.post(body), 422, "invalid-command")


@pytest.mark.parametrize(
    ("raw_id", "status"), [(b'"\xff"', 400), (b"1e999", 422), (b"9" * 5_000, 422)]
)
@pytest.mark.parametrize("key", [None, "k"])
def test_an_id_that_cannot_be_read_is_refused(
    gateway: GatewayUnderTest, raw_id: bytes, status: int, key: str | None
) -> None:
    one = b'{"type":"open","account":"a","id":' + raw_id + b"}"
    headers = {} if key is None else {"Idempotency-Key": key}
    for path, body in (("commands", one), ("commands/batch", b"[" + one + b"]")):
        response = gateway.http.post(
            f"/api/v1/{path}", data=body, headers=headers, content_type="application/json"
        )
        contradicts = key is not None and path == "commands"  # the header names another id
        assert response.status_code == (400 if contradicts else status), response.text
        assert response.json is not None
        assert response.json["outcome"] == "not_accepted"
    assert gateway.log.appended == []


def test_deeply_nested_json_is_refused(gateway: GatewayUnderTest) -> None:
    body = b'{"type":"open","account":"a","x":' + b"[" * 60_000 + b"}"
    response = gateway.http.post("/api/v1/commands", data=body, content_type="application/json")
    problem(response, 400, "malformed-request")


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/x-ndjson"])
def test_another_content_type_is_a_415(gateway: GatewayUnderTest, media_type: str | None) -> None:
    response = gateway.http.post("/api/v1/commands", data=json.dumps(OPEN), content_type=media_type)
    problem(response, 415, "unsupported-media-type")


def test_a_body_over_the_limit_is_a_413(gateway: GatewayUnderTest) -> None:
    limit = 64 * 1024
    whole = json.dumps(OPEN).encode().ljust(limit)
    for body, status in ((whole, 202), (whole + b" ", 413)):
        response = gateway.http.post("/api/v1/commands", data=body, content_type="application/json")
        assert response.status_code == status
    problem(response, 413, "too-large")


# --- waiting for the result -----------------------------------------------------------------


def test_a_result_that_comes_in_time_is_the_answer(gateway: GatewayUnderTest) -> None:
    gateway.results.result = b'{"id":"a1","status":"accepted","seq":7}'
    response = gateway.post(OPEN, Prefer="respond-async, wait=5")
    assert response.status_code == 200
    assert response.data == gateway.results.result
    assert response.headers["Preference-Applied"] == "wait=5"


def test_a_result_that_is_late_makes_the_answer_a_202(gateway: GatewayUnderTest) -> None:
    response = gateway.post(OPEN, Prefer="wait=1")
    assert response.status_code == 202
    assert response.json["offset"] == 0  # type: ignore[index]
    assert response.headers["Preference-Applied"] == "wait=1"


def test_results_are_followed_before_the_command_is_sent(gateway: GatewayUnderTest) -> None:
    gateway.post(OPEN, Prefer="wait=5")
    assert gateway.results.expected == [(shard_of(b"main", SHARDS), "a1", 0)]


@pytest.mark.parametrize(
    ("prefer", "seconds"), [("wait=900", 30), ('wait="3"', 3), ("Wait = 2; x=1", 2)]
)
def test_the_wait_is_read_leniently_and_bounded(
    gateway: GatewayUnderTest, prefer: str, seconds: int
) -> None:
    gateway.post(OPEN, Prefer=prefer)
    assert gateway.results.waited_s == [seconds]


@pytest.mark.parametrize(("takes_s", "left_s"), [(0.0, 5.0), (3.0, 2.0), (7.0, 0.0)])
def test_the_wait_counts_from_the_requests_arrival(
    gateway: GatewayUnderTest, takes_s: float, left_s: float
) -> None:
    gateway.log.append_s = takes_s
    assert gateway.post(OPEN, Prefer="wait=5").status_code == 202
    assert gateway.results.waited_s == [left_s]


@pytest.mark.parametrize(
    "prefer",
    ["wait=soon", "wait=-1", "wait=0", f"wait={'9' * 5_000}", "respond-async", "wait"],
)
def test_an_invalid_preference_is_ignored(gateway: GatewayUnderTest, prefer: str) -> None:
    response = gateway.post(OPEN, Prefer=prefer)
    assert response.status_code == 202
    assert "Preference-Applied" not in response.headers
    assert gateway.results.expected == []


def test_an_application_without_results_answers_at_once(gateway: GatewayUnderTest) -> None:
    gateway.results.is_offered = False
    response = gateway.post(OPEN, Prefer="wait=5")
    assert response.status_code == 202
    assert "Preference-Applied" not in response.headers


# --- Kafka is unavailable, or busy ----------------------------------------------------------


def test_an_unknown_outcome_is_never_reported_as_a_failure(gateway: GatewayUnderTest) -> None:
    gateway.log.outcomes = {0: Unknown("timed out")}
    response = gateway.post(OPEN)
    body = problem(response, 503, "outcome-unknown")
    assert (body["outcome"], body["id"]) == ("unknown", "a1")
    assert "Idempotency-Key" in body["detail"]
    assert response.headers["Retry-After"]


def test_a_command_that_was_certainly_not_sent_is_reported_as_not_accepted(
    gateway: GatewayUnderTest,
) -> None:
    gateway.log.outcomes = {0: NotAppended("no such topic")}
    body = problem(gateway.post(OPEN), 503, "unavailable")
    assert (body["outcome"], body["id"]) == ("not_accepted", "a1")


def test_without_kafka_no_command_is_accepted_and_the_answer_is_a_503(
    gateway: GatewayUnderTest,
) -> None:
    gateway.log.refusal = Unavailable("Kafka is unavailable")
    response = gateway.post(OPEN)
    assert problem(response, 503, "unavailable")["outcome"] == "not_accepted"
    assert response.headers["Retry-After"]


@pytest.mark.parametrize("part", ["log", "results"])
def test_too_many_requests_in_progress_are_a_429(gateway: GatewayUnderTest, part: str) -> None:
    getattr(gateway, part).refusal = TooBusy("100000 commands")
    response = gateway.post(OPEN, Prefer="wait=5")
    assert problem(response, 429, "too-busy")["outcome"] == "not_accepted"
    assert response.headers["Retry-After"]
    assert gateway.log.appended == []


# --- batches --------------------------------------------------------------------------------

BATCH = "/api/v1/commands/batch"


def test_a_batch_is_accepted_in_order(gateway: GatewayUnderTest) -> None:
    response = gateway.post([OPEN, DEPOSIT | {"id": "a2"}], BATCH)
    assert response.status_code == 202
    assert response.json is not None
    assert response.json["accepted"] == 2
    assert [(command["id"], command["offset"]) for command in response.json["commands"]] == [
        ("a1", 0),
        ("a2", 1),
    ]


@pytest.mark.parametrize("media_type", ["x-ndjson", "ndjson", "jsonl", "x-jsonlines"])
def test_a_batch_may_be_lines_of_json(gateway: GatewayUnderTest, media_type: str) -> None:
    lines = f"{json.dumps(OPEN)}\n\n{json.dumps(DEPOSIT)}\r\n"
    response = gateway.http.post(BATCH, data=lines, content_type=f"application/{media_type}")
    assert response.json is not None
    assert response.json["accepted"] == 2


def test_one_invalid_command_refuses_the_whole_batch_with_every_reason(
    gateway: GatewayUnderTest,
) -> None:
    batch = [OPEN, DEPOSIT | {"amount": 0, "id": "x"}, {"type": "nope"}]
    body = problem(gateway.post(batch, BATCH), 422, "invalid-batch")
    assert [(error["index"], error.get("id")) for error in body["errors"]] == [(1, "x"), (2, None)]
    assert body["outcome"] == "not_accepted"
    assert gateway.log.appended == []


def test_a_line_that_is_not_json_is_a_400_that_names_it(gateway: GatewayUnderTest) -> None:
    lines = f"{json.dumps(OPEN)}\n{{\n"
    response = gateway.http.post(BATCH, data=lines, content_type="application/x-ndjson")
    assert problem(response, 400, "malformed-request")["detail"].startswith("command 1:")


def test_a_batchs_key_is_short_enough_for_the_numbers_of_its_commands(
    gateway: GatewayUnderTest,
) -> None:
    longest = "k" * MAX_BATCH_KEY_LENGTH
    assert gateway.post([DEPOSIT], BATCH, Idempotency_Key=longest).status_code == 202
    refused = gateway.post([DEPOSIT], BATCH, Idempotency_Key=longest + "k")
    body = problem(refused, 400, "malformed-request")
    assert str(MAX_BATCH_KEY_LENGTH) in body["detail"]


def test_a_repeated_batch_with_a_key_has_the_same_ids(gateway: GatewayUnderTest) -> None:
    gateway.post([DEPOSIT, OPEN, DEPOSIT], BATCH, Idempotency_Key="k")
    assert [value["id"] for _, _, value in gateway.log.appended] == ["k-0", "a1", "k-2"]


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ([], 422, "invalid-batch"),
        ({}, 422, "invalid-batch"),
        ([OPEN] * 10_001, 413, "too-large"),
    ],
)
def test_a_batch_has_one_to_ten_thousand_commands(
    gateway: GatewayUnderTest, body: object, status: int, kind: str
) -> None:
    problem(gateway.post(body, BATCH), status, kind)
    assert gateway.log.appended == []


def test_a_batch_that_kafka_accepted_in_part_has_the_outcome_of_each_command(
    gateway: GatewayUnderTest,
) -> None:
    gateway.log.outcomes = {1: Unknown("timed out"), 2: NotAppended("purged")}
    body = problem(gateway.post([DEPOSIT] * 3, BATCH), 503, "outcome-unknown")
    assert body["accepted"] == 1
    assert [command["outcome"] for command in body["commands"]] == [
        *("accepted", "unknown", "not_accepted")
    ]
    assert all(command["id"] for command in body["commands"])


@pytest.mark.parametrize(
    ("outcomes", "kind", "whole"),
    [
        ("+-", "outcome-unknown", "unknown"),
        ("-+", "outcome-unknown", "unknown"),
        ("+?", "outcome-unknown", "unknown"),
        ("-?", "outcome-unknown", "unknown"),
        ("--", "unavailable", "not_accepted"),
    ],
)
def test_a_batch_is_reported_as_not_accepted_only_if_none_of_it_is_accepted(
    gateway: GatewayUnderTest, outcomes: str, kind: str, whole: str
) -> None:
    """Otherwise a client that sends it again with new ids doubles what was accepted."""
    failures: dict[str, Outcome] = {"?": Unknown("timed out"), "-": NotAppended("purged")}
    gateway.log.outcomes = {
        n: failures[mark] for n, mark in enumerate(outcomes) if mark in failures
    }
    response = gateway.post([DEPOSIT] * 2, BATCH)
    body = problem(response, 503, kind)
    assert (body["outcome"], body["accepted"]) == (whole, outcomes.count("+"))
    names = {"+": "accepted", "-": "not_accepted", "?": "unknown"}
    assert [command["outcome"] for command in body["commands"]] == [
        names[mark] for mark in outcomes
    ]
    assert response.headers["Retry-After"]
