"""Reads and operations over the gateway's HTTP interface."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from prometheus_client import generate_latest

from postjournal.cluster.query_client import ReplicaBehind
from postjournal.cluster.view import ShardView
from tests.support.gateway import OPEN, GatewayUnderTest, make_gateway, problem


@pytest.fixture
def gateway() -> GatewayUnderTest:
    return make_gateway()


# --- reads ----------------------------------------------------------------------------------


def answer(result: object) -> dict[str, Any]:
    return {"result": result, "seq": 9, "epoch": 2, "shard": 0, "replica": "r1"}


def test_a_balance_comes_with_seq_epoch_shard_and_replica(gateway: GatewayUnderTest) -> None:
    gateway.replicas.answers = [answer({"account": "alice", "balance": 5})]
    response = gateway.http.get("/api/v1/accounts/alice")
    assert response.json == {
        "account": "alice",
        "balance": 5,
        "seq": 9,
        "epoch": 2,
        "shard": 0,
        "replica": "r1",
    }


def test_reads_are_linearizable_by_default(gateway: GatewayUnderTest) -> None:
    gateway.replicas.answers = [
        answer({"account": "alice", "balance": 5}),
        answer({"account": "alice", "balance": 5}),
    ]
    gateway.http.get("/api/v1/accounts/alice")
    gateway.http.get("/api/v1/accounts/alice?consistency=any")
    assert [(to, query["consistency"]) for to, _, query in gateway.replicas.queries] == [
        ("leader:1", "leader"),
        ("standby:1", "any"),
    ]


def test_a_query_that_fails_is_repeated(gateway: GatewayUnderTest) -> None:
    gateway.replicas.answers = [
        "not leader",
        "connection refused",
        answer({"account": "alice", "balance": 5}),
    ]
    assert gateway.http.get("/api/v1/accounts/alice").status_code == 200


def test_a_read_that_no_replica_answers_names_what_replicas_report(
    gateway: GatewayUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.producer.reads.BUDGET_S", 0.05)
    gateway.replicas.errors[0] = "r1: evolve failed at command o1"
    response = gateway.http.get("/api/v1/accounts/alice")
    assert response.status_code == 503
    assert "no replica; r1: evolve failed at command o1" in response.get_data(as_text=True)


def test_min_seq_is_passed_to_the_replica(gateway: GatewayUnderTest) -> None:
    gateway.replicas.answers = [answer({"account": "alice", "balance": 5})]
    gateway.http.get("/api/v1/accounts/alice?consistency=any&min_seq=9")
    assert [query["min_seq"] for _, _, query in gateway.replicas.queries] == ["9"]


def test_after_a_replica_that_is_behind_another_is_queried(gateway: GatewayUnderTest) -> None:
    gateway.replicas.answers = [
        ReplicaBehind("standby:1 is at 3", 3),
        answer({"account": "alice", "balance": 5}),
    ]
    response = gateway.http.get("/api/v1/accounts/alice?consistency=any&min_seq=9")
    assert response.status_code == 200
    assert [to for to, _, _ in gateway.replicas.queries] == ["standby:1", "leader:1"]


def test_when_no_replica_has_reached_min_seq_the_answer_has_the_highest_seq(
    gateway: GatewayUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.producer.reads.BUDGET_S", 0.01)
    gateway.replicas.answers = [ReplicaBehind("at 3", 3), ReplicaBehind("at 4", 4), "no answer"]
    response = gateway.http.get("/api/v1/accounts/alice?consistency=any&min_seq=9")
    body = problem(response, 503, "behind")
    assert (body["seq"], body["min_seq"], response.headers["Retry-After"]) == (4, 9, "1")


def test_an_account_may_have_any_name(gateway: GatewayUnderTest) -> None:
    names = ["a/b", "a//b", "/a", "a/", "..", "a\nb", "a?b#c", "%2F", "grüße"]
    gateway.replicas.answers = [answer({"account": "alice", "balance": 5})] * len(names)
    for name in names:
        path = f"/api/v1/accounts/{quote(name, safe='')}"
        assert gateway.http.get(path).status_code == 200
    assert [query["account"] for _, _, query in gateway.replicas.queries] == names


def test_an_unknown_account_is_a_404(gateway: GatewayUnderTest) -> None:
    gateway.replicas.answers = [answer(None)]
    problem(gateway.http.get("/api/v1/accounts/bob"), 404, "unknown-account")


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
def test_an_invalid_parameter_is_a_400(gateway: GatewayUnderTest, path: str) -> None:
    problem(gateway.http.get(f"/api/v1/{path}"), 400, "malformed-request")


def test_without_a_leader_a_read_is_a_503(
    gateway: GatewayUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.producer.reads.BUDGET_S", 0.01)
    response = gateway.http.get("/api/v1/accounts/alice")
    assert problem(response, 503, "no-leader")["detail"] == "no replica"
    assert response.headers["Retry-After"]


def test_the_leader_is_returned_for_all_shards_or_for_one(gateway: GatewayUnderTest) -> None:
    gateway.replicas.views[1] = ShardView("r1", "h:1", "h:2", 4, 99, "leader", 7, "00")
    body = gateway.http.get("/api/v1/leader").json
    assert body is not None
    assert [shard["leader"] for shard in body["shards"]] == [None, "r1", None]
    one = gateway.http.get("/api/v1/leader?shard=1").json
    assert one is not None
    assert (one["epoch"], one["since"], one["address"], one["http"]) == (4, 99, "h:1", "h:2")
    for shard in ("3", "1" * 5_000):
        problem(gateway.http.get(f"/api/v1/leader?shard={shard}"), 404, "not-found")


# --- operations -----------------------------------------------------------------------------


def test_the_gateway_is_ready_only_when_every_part_is(gateway: GatewayUnderTest) -> None:
    assert gateway.http.get("/readyz").status_code == 200
    gateway.results.unavailable_reason = "results are not followed"
    assert "not followed" in problem(gateway.http.get("/readyz"), 503, "unavailable")["detail"]
    assert gateway.http.get("/livez").status_code == 200


def test_flasks_own_errors_are_problems_too(gateway: GatewayUnderTest) -> None:
    problem(gateway.http.get("/nowhere"), 404, "not-found")
    response = gateway.http.put("/api/v1/commands")
    problem(response, 405, "method-not-allowed")
    assert "POST" in response.headers["Allow"]


def test_a_bug_is_a_500_that_reveals_no_internals(gateway: GatewayUnderTest) -> None:
    gateway.log.refusal = RuntimeError("secret")
    assert "secret" not in str(problem(gateway.post(OPEN), 500, "internal-error"))


def test_requests_are_counted_by_route_and_status(gateway: GatewayUnderTest) -> None:
    gateway.post(OPEN)
    gateway.http.get("/nowhere")
    text = generate_latest(gateway.metrics.registry).decode()
    labels = 'method="POST",route="/api/v1/commands",status="202"'
    assert f"postjournal_gateway_requests_total{{{labels}}} 1.0" in text
    assert 'route="unmatched",status="404"} 1.0' in text


def test_unknown_methods_are_one_series(gateway: GatewayUnderTest) -> None:
    for number in range(3):
        gateway.http.open("/api/v1/commands", method=f"ODD{number}")
    text = generate_latest(gateway.metrics.registry).decode()
    assert "ODD" not in text
    assert 'method="other",route="unmatched",status="405"} 3.0' in text


def test_the_public_port_has_no_metrics(gateway: GatewayUnderTest) -> None:
    problem(gateway.http.get("/metrics"), 404, "not-found")


def test_the_openapi_document_has_the_applications_commands(gateway: GatewayUnderTest) -> None:
    document = gateway.http.get("/api/v1/openapi.json").json
    assert document is not None
    assert document["openapi"].startswith("3.1")
    deposit = document["components"]["schemas"]["Deposit"]
    assert "amount" in deposit["required"]
    assert "id" not in deposit["required"]  # the gateway creates it
