"""Commands over the gateway's HTTP interface: what is taken, refused, and told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from postjournal.core.sharding import shard_of
from services.producer.parsing import MAX_BATCH_KEY_LENGTH
from services.producer.ports import NotAppended, Outcome, TooBusy, Unavailable, Unknown
from tests.support.gateway import DEPOSIT, OPEN, SHARDS, Setup, make_gateway, problem


@pytest.fixture
def world() -> Setup:
    return make_gateway()


# --- one command ----------------------------------------------------------------------------


def test_a_command_is_accepted_with_its_place_in_the_log(world: Setup) -> None:
    response = world.post(OPEN)
    shard = shard_of(b"main", SHARDS)
    assert response.status_code == 202
    assert response.json == {"id": "a1", "shard": shard, "offset": 0}
    assert world.log.appended == [(b"main", shard, OPEN)]


def test_the_ledger_picks_the_shard_and_is_the_records_key(world: Setup) -> None:
    for ledger in ("eins", "zwei", "größe"):
        world.http.post("/api/v1/commands", query_string={"ledger": ledger}, json=OPEN)
    places = [(key.decode(), shard) for key, shard, _ in world.log.appended]
    assert places == [(key, shard_of(key.encode(), SHARDS)) for key, _ in places]
    assert [key for key, _ in places] == ["eins", "zwei", "größe"]


def test_the_idempotency_key_becomes_the_commands_id(world: Setup) -> None:
    for header in ("k-1", '"k-1"'):
        assert world.post(DEPOSIT, Idempotency_Key=header).json["id"] == "k-1"  # type: ignore[index]
    assert [value["id"] for _, _, value in world.log.appended] == ["k-1", "k-1"]


def test_without_any_id_the_gateway_makes_a_new_one_each_time(world: Setup) -> None:
    ids = {world.post(DEPOSIT).json["id"] for _ in range(2)}  # type: ignore[index]
    assert len(ids) == 2
    assert all(len(each) == 32 for each in ids)


def test_header_and_body_that_name_different_ids_are_refused(world: Setup) -> None:
    body = problem(world.post(OPEN, Idempotency_Key="b2"), 400, "malformed-request")
    assert body["outcome"] == "not_accepted"
    assert world.log.appended == []
    assert world.post(OPEN, Idempotency_Key="a1").status_code == 202


@pytest.mark.parametrize("key", ["", '""', "x" * 129, "tab\there"])
def test_an_idempotency_key_that_cannot_be_an_id_is_refused(world: Setup, key: str) -> None:
    problem(world.post(DEPOSIT, Idempotency_Key=key), 400, "malformed-request")


@pytest.mark.parametrize("body", [b"", b"{", b'{"type":"open"', b"\xff", b"{} x", b"NaN"])
def test_malformed_json_is_a_400(world: Setup, body: bytes) -> None:
    response = world.http.post("/api/v1/commands", data=body, content_type="application/json")
    problem(response, 400, "malformed-request")


@pytest.mark.parametrize(
    ("change", "place"),
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
    world: Setup, change: dict[str, Any], place: str
) -> None:
    body = problem(world.post(DEPOSIT | change), 422, "invalid-command")
    assert body["field"] == place
    assert body["outcome"] == "not_accepted"
    assert world.log.appended == []


@pytest.mark.parametrize("body", [[], "open", 7, False, {}])
def test_json_that_is_no_command_is_a_422(world: Setup, body: object) -> None:
    problem(world.post(body), 422, "invalid-command")


@pytest.mark.parametrize(
    ("told_id", "status"), [(b'"\xff"', 400), (b"1e999", 422), (b"9" * 5_000, 422)]
)
@pytest.mark.parametrize("key", [None, "k"])
def test_an_id_that_cannot_be_read_is_refused(
    world: Setup, told_id: bytes, status: int, key: str | None
) -> None:
    one = b'{"type":"open","account":"a","id":' + told_id + b"}"
    headers = {} if key is None else {"Idempotency-Key": key}
    for path, body in (("commands", one), ("commands/batch", b"[" + one + b"]")):
        response = world.http.post(
            f"/api/v1/{path}", data=body, headers=headers, content_type="application/json"
        )
        is_repeat = key is not None and path == "commands"  # of which the header says otherwise
        assert response.status_code == (400 if is_repeat else status), response.text
        assert response.json is not None
        assert response.json["outcome"] == "not_accepted"
    assert world.log.appended == []


def test_a_nest_of_brackets_is_refused_and_breaks_nothing(world: Setup) -> None:
    body = b'{"type":"open","account":"a","x":' + b"[" * 60_000 + b"}"
    response = world.http.post("/api/v1/commands", data=body, content_type="application/json")
    problem(response, 400, "malformed-request")


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/x-ndjson"])
def test_another_content_type_is_a_415(world: Setup, media_type: str | None) -> None:
    response = world.http.post("/api/v1/commands", data=json.dumps(OPEN), content_type=media_type)
    problem(response, 415, "unsupported-media-type")


def test_a_body_over_the_limit_is_a_413(world: Setup) -> None:
    limit = 64 * 1024
    whole = json.dumps(OPEN).encode().ljust(limit)
    for body, status in ((whole, 202), (whole + b" ", 413)):
        response = world.http.post("/api/v1/commands", data=body, content_type="application/json")
        assert response.status_code == status
    problem(response, 413, "too-large")


# --- waiting for the result -----------------------------------------------------------------


def test_a_result_that_comes_in_time_is_the_answer(world: Setup) -> None:
    world.results.result = b'{"id":"a1","status":"accepted","seq":7}'
    response = world.post(OPEN, Prefer="respond-async, wait=5")
    assert response.status_code == 200
    assert response.data == world.results.result
    assert response.headers["Preference-Applied"] == "wait=5"


def test_a_result_that_is_late_leaves_a_202(world: Setup) -> None:
    response = world.post(OPEN, Prefer="wait=1")
    assert response.status_code == 202
    assert response.json["offset"] == 0  # type: ignore[index]
    assert response.headers["Preference-Applied"] == "wait=1"


def test_the_result_is_watched_for_before_the_command_is_sent(world: Setup) -> None:
    world.post(OPEN, Prefer="wait=5")
    assert world.results.expected == [(shard_of(b"main", SHARDS), "a1", 0)]


@pytest.mark.parametrize(
    ("prefer", "seconds"), [("wait=900", 30), ('wait="3"', 3), ("Wait = 2; x=1", 2)]
)
def test_the_wait_is_read_leniently_and_bounded(world: Setup, prefer: str, seconds: int) -> None:
    world.post(OPEN, Prefer=prefer)
    assert world.results.waited_s == [seconds]


@pytest.mark.parametrize(("takes_s", "left_s"), [(0.0, 5.0), (3.0, 2.0), (7.0, 0.0)])
def test_the_wait_counts_from_the_requests_arrival(
    world: Setup, takes_s: float, left_s: float
) -> None:
    world.log.takes_s = takes_s
    assert world.post(OPEN, Prefer="wait=5").status_code == 202
    assert world.results.waited_s == [left_s]


@pytest.mark.parametrize(
    "prefer",
    ["wait=soon", "wait=-1", "wait=0", f"wait={'9' * 5_000}", "respond-async", "wait"],
)
def test_a_preference_that_means_nothing_is_ignored(world: Setup, prefer: str) -> None:
    response = world.post(OPEN, Prefer=prefer)
    assert response.status_code == 202
    assert "Preference-Applied" not in response.headers
    assert world.results.expected == []


def test_an_application_without_results_answers_at_once(world: Setup) -> None:
    world.results.is_offered = False
    response = world.post(OPEN, Prefer="wait=5")
    assert response.status_code == 202
    assert "Preference-Applied" not in response.headers


# --- trouble --------------------------------------------------------------------------------


def test_an_outcome_that_nobody_knows_is_never_called_a_failure(world: Setup) -> None:
    world.log.outcomes = {0: Unknown("timed out")}
    response = world.post(OPEN)
    body = problem(response, 503, "outcome-unknown")
    assert (body["outcome"], body["id"]) == ("unknown", "a1")
    assert "Idempotency-Key" in body["detail"]
    assert response.headers["Retry-After"]


def test_what_was_certainly_not_sent_is_told_as_such(world: Setup) -> None:
    world.log.outcomes = {0: NotAppended("no such topic")}
    body = problem(world.post(OPEN), 503, "unavailable")
    assert (body["outcome"], body["id"]) == ("not_accepted", "a1")


def test_without_kafka_nothing_is_taken_and_the_answer_is_a_503(world: Setup) -> None:
    world.log.refusal = Unavailable("Kafka is away")
    response = world.post(OPEN)
    assert problem(response, 503, "unavailable")["outcome"] == "not_accepted"
    assert response.headers["Retry-After"]


@pytest.mark.parametrize("where", ["log", "results"])
def test_too_much_under_way_is_a_429(world: Setup, where: str) -> None:
    getattr(world, where).refusal = TooBusy("100000 commands")
    response = world.post(OPEN, Prefer="wait=5")
    assert problem(response, 429, "too-busy")["outcome"] == "not_accepted"
    assert response.headers["Retry-After"]
    assert world.log.appended == []


# --- batches --------------------------------------------------------------------------------

BATCH = "/api/v1/commands/batch"


def test_a_batch_is_accepted_in_order(world: Setup) -> None:
    response = world.post([OPEN, DEPOSIT | {"id": "a2"}], BATCH)
    assert response.status_code == 202
    assert response.json is not None
    assert response.json["accepted"] == 2
    assert [(each["id"], each["offset"]) for each in response.json["commands"]] == [
        ("a1", 0),
        ("a2", 1),
    ]


@pytest.mark.parametrize("media_type", ["x-ndjson", "ndjson", "jsonl", "x-jsonlines"])
def test_a_batch_may_be_lines_of_json(world: Setup, media_type: str) -> None:
    lines = f"{json.dumps(OPEN)}\n\n{json.dumps(DEPOSIT)}\r\n"
    response = world.http.post(BATCH, data=lines, content_type=f"application/{media_type}")
    assert response.json is not None
    assert response.json["accepted"] == 2


def test_one_invalid_command_refuses_the_whole_batch_with_every_reason(world: Setup) -> None:
    batch = [OPEN, DEPOSIT | {"amount": 0, "id": "x"}, {"type": "nope"}]
    body = problem(world.post(batch, BATCH), 422, "invalid-batch")
    assert [(each["index"], each.get("id")) for each in body["errors"]] == [(1, "x"), (2, None)]
    assert body["outcome"] == "not_accepted"
    assert world.log.appended == []


def test_a_line_that_is_no_json_is_a_400_that_names_it(world: Setup) -> None:
    lines = f"{json.dumps(OPEN)}\n{{\n"
    response = world.http.post(BATCH, data=lines, content_type="application/x-ndjson")
    assert problem(response, 400, "malformed-request")["detail"].startswith("command 1:")


def test_a_batchs_key_leaves_room_for_the_numbers_of_its_commands(world: Setup) -> None:
    path, commands = "/api/v1/commands/batch", [DEPOSIT]
    longest = "k" * MAX_BATCH_KEY_LENGTH
    assert world.post(commands, path, Idempotency_Key=longest).status_code == 202
    refused = world.post(commands, path, Idempotency_Key=longest + "k")
    body = problem(refused, 400, "malformed-request")
    assert str(MAX_BATCH_KEY_LENGTH) in body["detail"]


def test_a_batchs_key_makes_ids_that_a_repetition_makes_again(world: Setup) -> None:
    world.post([DEPOSIT, OPEN, DEPOSIT], BATCH, Idempotency_Key="k")
    assert [value["id"] for _, _, value in world.log.appended] == ["k-0", "a1", "k-2"]


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ([], 422, "invalid-batch"),
        ({}, 422, "invalid-batch"),
        ([OPEN] * 10_001, 413, "too-large"),
    ],
)
def test_a_batch_has_one_to_ten_thousand_commands(
    world: Setup, body: object, status: int, kind: str
) -> None:
    problem(world.post(body, BATCH), status, kind)
    assert world.log.appended == []


def test_a_batch_that_kafka_took_in_part_tells_the_outcome_of_each(world: Setup) -> None:
    world.log.outcomes = {1: Unknown("timed out"), 2: NotAppended("purged")}
    body = problem(world.post([DEPOSIT] * 3, BATCH), 503, "outcome-unknown")
    assert body["accepted"] == 1
    assert [each["outcome"] for each in body["commands"]] == ["accepted", "unknown", "not_accepted"]
    assert all(each["id"] for each in body["commands"])


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
def test_a_batch_is_told_as_not_accepted_only_if_all_of_it_is(
    world: Setup, outcomes: str, kind: str, whole: str
) -> None:
    """Else a client that sends it again with new ids doubles what was accepted."""
    told: dict[str, Outcome] = {"?": Unknown("timed out"), "-": NotAppended("purged")}
    world.log.outcomes = {n: told[mark] for n, mark in enumerate(outcomes) if mark in told}
    response = world.post([DEPOSIT] * 2, BATCH)
    body = problem(response, 503, kind)
    assert (body["outcome"], body["accepted"]) == (whole, outcomes.count("+"))
    names = {"+": "accepted", "-": "not_accepted", "?": "unknown"}
    assert [each["outcome"] for each in body["commands"]] == [names[mark] for mark in outcomes]
    assert response.headers["Retry-After"]
