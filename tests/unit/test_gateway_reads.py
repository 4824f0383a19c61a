"""Reads and operations over the gateway's HTTP interface."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from prometheus_client import generate_latest

from postjournal.cluster.view import ShardView
from services.producer.ports import ReplicaBehind
from tests.support.gateway import OPEN, Setup, make_gateway, problem


@pytest.fixture
def world() -> Setup:
    return make_gateway()


# --- reads ----------------------------------------------------------------------------------


def answer(result: object) -> dict[str, Any]:
    return {"result": result, "seq": 9, "epoch": 2, "shard": 0, "replica": "r1"}


def test_a_balance_comes_with_the_place_it_is_true_at(world: Setup) -> None:
    world.replicas.answers = [answer({"account": "alice", "balance": 5})]
    response = world.http.get("/api/v1/accounts/alice")
    assert response.json == {
        "account": "alice",
        "balance": 5,
        "seq": 9,
        "epoch": 2,
        "shard": 0,
        "replica": "r1",
    }


def test_reads_are_linearizable_unless_asked_otherwise(world: Setup) -> None:
    world.replicas.answers = [
        answer({"account": "alice", "balance": 5}),
        answer({"account": "alice", "balance": 5}),
    ]
    world.http.get("/api/v1/accounts/alice")
    world.http.get("/api/v1/accounts/alice?consistency=any")
    assert [(to, asked["consistency"]) for to, _, asked in world.replicas.asked] == [
        ("leader:1", "leader"),
        ("standby:1", "any"),
    ]


def test_a_replica_that_cannot_answer_is_followed_by_another_attempt(world: Setup) -> None:
    world.replicas.answers = [
        "not leader",
        "connection refused",
        answer({"account": "alice", "balance": 5}),
    ]
    assert world.http.get("/api/v1/accounts/alice").status_code == 200


def test_a_reader_of_its_own_writes_names_what_it_has_seen(world: Setup) -> None:
    world.replicas.answers = [answer({"account": "alice", "balance": 5})]
    world.http.get("/api/v1/accounts/alice?consistency=any&min_seq=9")
    assert [asked["min_seq"] for _, _, asked in world.replicas.asked] == ["9"]


def test_a_replica_that_is_behind_is_followed_by_another(world: Setup) -> None:
    world.replicas.answers = [
        ReplicaBehind("standby:1 is at 3", 3),
        answer({"account": "alice", "balance": 5}),
    ]
    response = world.http.get("/api/v1/accounts/alice?consistency=any&min_seq=9")
    assert response.status_code == 200
    assert [to for to, _, _ in world.replicas.asked] == ["standby:1", "leader:1"]


def test_where_no_replica_is_so_far_the_answer_says_how_far_they_are(
    world: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.producer.reads.BUDGET_S", 0.01)
    world.replicas.answers = [ReplicaBehind("at 3", 3), ReplicaBehind("at 4", 4), "gone"]
    response = world.http.get("/api/v1/accounts/alice?consistency=any&min_seq=9")
    told = problem(response, 503, "behind")
    assert (told["seq"], told["min_seq"], response.headers["Retry-After"]) == (4, 9, "1")


def test_an_account_may_have_any_name(world: Setup) -> None:
    names = ["a/b", "a//b", "/a", "a/", "..", "a\nb", "a?b#c", "%2F", "grüße"]
    world.replicas.answers = [answer({"account": "alice", "balance": 5})] * len(names)
    for name in names:
        path = f"/api/v1/accounts/{quote(name, safe='')}"
        assert world.http.get(path).status_code == 200
    assert [asked["account"] for _, _, asked in world.replicas.asked] == names


def test_an_unknown_account_is_a_404(world: Setup) -> None:
    world.replicas.answers = [answer(None)]
    problem(world.http.get("/api/v1/accounts/bob"), 404, "unknown-account")


@pytest.mark.parametrize(
    "path",
    [
        "accounts/alice?consistency=some",
        "accounts/alice?min_seq=-1",
        "accounts/alice?min_seq=1e3",
        f"accounts/{'a' * 129}",
        "leader?shard=x",
        f"accounts/alice?min_seq={'1' * 5_000}",
    ],
)
def test_a_question_that_makes_no_sense_is_a_400(world: Setup, path: str) -> None:
    problem(world.http.get(f"/api/v1/{path}"), 400, "malformed-request")


def test_without_any_leader_a_read_is_a_503(world: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.producer.reads.BUDGET_S", 0.01)
    response = world.http.get("/api/v1/accounts/alice")
    assert problem(response, 503, "no-leader")["detail"] == "no replica"
    assert response.headers["Retry-After"]


def test_who_leads_is_told_for_all_shards_or_one(world: Setup) -> None:
    world.replicas.views[1] = ShardView("r1", "h:1", "h:2", 4, 99, "leader", 7, "00")
    everything = world.http.get("/api/v1/leader").json
    assert everything is not None
    assert [each["leader"] for each in everything["shards"]] == [None, "r1", None]
    one = world.http.get("/api/v1/leader?shard=1").json
    assert one is not None
    assert (one["epoch"], one["since"], one["address"], one["http"]) == (4, 99, "h:1", "h:2")
    for beyond in ("3", "1" * 5_000):
        problem(world.http.get(f"/api/v1/leader?shard={beyond}"), 404, "not-found")


# --- operations -----------------------------------------------------------------------------


def test_ready_is_said_only_when_every_part_is(world: Setup) -> None:
    assert world.http.get("/readyz").status_code == 200
    world.results.trouble = "results are not followed"
    assert "not followed" in problem(world.http.get("/readyz"), 503, "unavailable")["detail"]
    assert world.http.get("/livez").status_code == 200


def test_flasks_own_errors_are_problems_too(world: Setup) -> None:
    problem(world.http.get("/nowhere"), 404, "not-found")
    response = world.http.put("/api/v1/commands")
    problem(response, 405, "method-not-allowed")
    assert "POST" in response.headers["Allow"]


def test_a_bug_is_a_500_that_tells_no_internals(world: Setup) -> None:
    world.log.refusal = RuntimeError("secret")
    assert "secret" not in str(problem(world.post(OPEN), 500, "internal-error"))


def test_requests_are_counted_by_route_and_status(world: Setup) -> None:
    world.post(OPEN)
    world.http.get("/nowhere")
    text = generate_latest(world.metrics.registry).decode()
    labels = 'method="POST",route="/api/v1/commands",status="202"'
    assert f"postjournal_gateway_requests_total{{{labels}}} 1.0" in text
    assert 'route="unmatched",status="404"} 1.0' in text


def test_methods_that_somebody_makes_up_are_one_series(world: Setup) -> None:
    for number in range(3):
        world.http.open("/api/v1/commands", method=f"ODD{number}")
    text = generate_latest(world.metrics.registry).decode()
    assert "ODD" not in text
    assert 'method="other",route="unmatched",status="405"} 3.0' in text


def test_the_public_port_tells_no_metrics(world: Setup) -> None:
    problem(world.http.get("/metrics"), 404, "not-found")


def test_the_api_describes_itself(world: Setup) -> None:
    described = world.http.get("/api/v1/openapi.json").json
    assert described is not None
    assert described["openapi"].startswith("3.1")
    deposit = described["components"]["schemas"]["Deposit"]
    assert "amount" in deposit["required"]
    assert "id" not in deposit["required"]  # the gateway makes one
