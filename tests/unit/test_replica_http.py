"""The replica's HTTP interface: the leader, health, and the answers to bad requests."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from msgspec.structs import replace

from services.replica import http as http_module
from services.replica import messages as m
from services.replica.engines import Engines
from services.replica.http import make_app
from tests.support.services import replica_status


def replica(*states: str | None) -> Engines:
    """The engines of a replica by the state of each shard; None: it has not reported yet."""
    engines = Engines(len(states), lambda shard, record: None)
    for engine, state in zip(engines.all, states, strict=True):
        engine.state = replace(engine.state, pid=100 + engine.shard, ill=None)
        if state is not None:
            engine.status = replica_status("r1", state, 4, "r2", shard=engine.shard)
    return engines


def client(*states: str | None) -> FlaskClient:
    return client_of(replica(*states))


def client_of(engines: Engines) -> FlaskClient:
    return make_app("r1", engines, lambda: None, crash_token="secret").test_client()


# --- the leader -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("leader", 200),
        ("resigning", 200),
        ("standby", 503),
        ("claiming", 503),
        ("catching_up", 503),
        ("reader", 503),
        ("halted", 503),
    ],
)
def test_only_the_leader_answers_leader_with_200_and_every_replica_names_it(
    state: str, status: int
) -> None:
    answer = client("standby", state).get("/leader?shard=1")
    assert answer.status_code == status
    assert answer.json == {
        "shard": 1,
        "leader": "r2",
        "address": "r2:7071",
        "epoch": 4,
        "is_leader": status == 200,
    }


def test_leader_is_that_of_shard_0_by_default() -> None:
    http = client("leader", "standby")
    assert http.get("/leader").status_code == 200
    unknown = http.get("/leader?shard=2")
    assert (unknown.status_code, unknown.json) == (404, {"error": "no such shard"})


# --- liveness -------------------------------------------------------------------------------


def test_a_replica_is_live_while_all_its_engines_are_and_says_which_is_not() -> None:
    engines = replica("leader", "standby")
    live = client_of(engines).get("/livez")
    assert (live.status_code, live.json) == (200, {"live": True, "ill": {}})
    engines.all[1].state = replace(engines.all[1].state, ill="its loop has not turned for 7 s")
    ill = client_of(engines).get("/livez")
    assert ill.status_code == 503
    assert ill.json == {"live": False, "ill": {"1": "its loop has not turned for 7 s"}}


def test_a_replica_whose_main_process_is_stuck_is_not_live(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_module, "PARENT_SILENT_S", 0.0)
    assert client("leader").get("/livez").status_code == 503


def test_a_halted_shard_is_live_and_not_ready() -> None:
    """A restart would not help, and would end the access to its state."""
    http = client("halted")
    assert http.get("/livez").status_code == 200
    ready = http.get("/readyz")
    assert (ready.status_code, ready.json) == (503, {"ready": False, "shards": {"0": "halted"}})


def test_a_replica_that_waits_for_kafka_is_live_and_not_ready() -> None:
    http = client(None)
    assert http.get("/livez").status_code == 200
    assert http.get("/readyz").status_code == 503
    assert http.get("/leader").status_code == 503
    assert http.get("/state").status_code == 503


def test_a_shard_whose_engine_has_ended_is_not_ready_and_everybody_is_told() -> None:
    engines = replica("leader", "standby")
    published: list[tuple[int, Any]] = []
    engines._publish = lambda shard, record: published.append((shard, record))
    states = [engine.state for engine in engines.all]
    ill, last_end = "its engine has ended: killed by SIGKILL", "killed by SIGKILL"
    gone = replace(states[0], pid=None, ill=ill, last_end=last_end)
    engines.on_engines(m.Engines(7, [gone, states[1]]))
    engines.on_engines(m.Engines(7, [gone, states[1]]))
    ((shard, record),) = published
    assert (shard, record.state, record.error) == (0, "restoring", ill)
    assert (record.pid, record.last_end) == (0, last_end)
    assert client_of(engines).get("/readyz").json == {
        "ready": False,
        "shards": {"0": "restoring", "1": "standby"},
    }
    assert client_of(engines).get("/query/0").status_code == 503


# --- bad requests ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/leader", "/query/0"])
def test_a_query_string_that_is_not_utf_8_is_a_400(path: str) -> None:
    raw = {"QUERY_STRING": "shard=\xff"}  # as WSGI has it: bytes as Latin-1
    answer = client("leader").get(path, environ_overrides=raw)
    assert answer.status_code == 400
    assert "percent-encode" in error_of(answer)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/static/x", 404),
        ("POST", "/leader", 405),
        ("GET", "/crash", 405),
        ("POST", "/crash", 401),
    ],
)
def test_every_error_has_the_same_form(method: str, path: str, status: int) -> None:
    answer = client("leader").open(path, method=method)
    assert answer.status_code == status
    assert error_of(answer)
    assert ("Allow" in answer.headers) == (status == 405)


def error_of(answer: Any) -> str:
    assert answer.content_type == "application/json"
    (message,) = json.loads(answer.text).values()
    assert list(json.loads(answer.text)) == ["error"]
    assert isinstance(message, str)
    return message
