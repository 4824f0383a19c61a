"""The replica's HTTP interface: the leader, health, and the answers to bad requests."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient

from postjournal.cluster.topics import Topics
from postjournal.config.settings import Settings
from postjournal.core.errors import ShardHalted
from postjournal.ledger import Ledger
from services.replica import shard as shard_module
from services.replica.http import make_app
from services.replica.shard import LIVE_WITHIN_MS, Addresses, ShardRunner, Shared


def client(*shards: Any) -> FlaskClient:
    return make_app("r1", shards, crash_token="secret").test_client()


def shard(number: int, state: str, *, alive: bool = True) -> Any:
    """The part of a `ShardRunner` that the HTTP interface reads."""
    status = SimpleNamespace(state=state, leader="r2", leader_address="r2:7071", epoch=4)
    return SimpleNamespace(shard=number, alive=alive, status=status)


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
    answer = client(shard(0, "standby"), shard(1, state)).get("/leader?shard=1")
    assert answer.status_code == status
    assert answer.json == {
        "shard": 1,
        "leader": "r2",
        "address": "r2:7071",
        "epoch": 4,
        "is_leader": status == 200,
    }


def test_leader_is_that_of_shard_0_by_default() -> None:
    http = client(shard(0, "leader"), shard(1, "standby"))
    assert http.get("/leader").status_code == 200
    unknown = http.get("/leader?shard=2")
    assert (unknown.status_code, unknown.json) == (404, {"error": "no such shard"})


# --- liveness -------------------------------------------------------------------------------


def test_a_replica_is_live_while_all_its_shards_are() -> None:
    assert client(shard(0, "leader"), shard(1, "standby")).get("/livez").status_code == 200
    dead = client(shard(0, "leader"), shard(1, "standby", alive=False)).get("/livez")
    assert dead.status_code == 503


class Mute:
    """Accepts every call and does nothing."""

    def __init__(self, *arguments: object, **named: object) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **named: None


class SlowLog(Mute):
    """A shard's log whose `poll` returns when the test sets `may_return`."""

    error: Exception | None = None

    def __init__(self, *arguments: object) -> None:
        self.is_polled, self.may_return = threading.Event(), threading.Event()

    def known_end(self) -> None:
        pass

    def poll(self, timeout_ms: int) -> list[Any]:
        self.is_polled.set()
        assert self.may_return.wait(60)
        if self.error is not None:
            raise self.error
        return []


class Clock:
    now_ms = 0

    def monotonic_ms(self) -> int:
        return self.now_ms

    wall_ms = monotonic_ms


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    created = Clock()
    monkeypatch.setattr(shard_module, "SystemClock", lambda: created)
    return created


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> SlowLog:
    created = SlowLog()
    monkeypatch.setattr(shard_module, "KafkaLog", lambda *arguments: created)
    monkeypatch.setattr(shard_module, "RecordProducer", Mute)
    return created


@pytest.fixture
def runner(clock: Clock, log: SlowLog) -> Iterator[ShardRunner]:
    """The runner of a shard in its first turn."""
    application = Ledger()
    topics = Topics.of("x", application.sources, application.sinks)
    configuration = Settings.from_environment({"POSTJOURNAL_BOOTSTRAP": "127.0.0.1:1"})
    shared = Shared(configuration, topics, application, Addresses("h:1", "h:2"), None)
    created = ShardRunner(shared, 0)
    created.start()
    assert log.is_polled.wait(60)
    yield created
    log.may_return.set()
    created.inbox.ask_to_stop()
    created.join(60)


def test_a_loop_that_has_not_turned_for_long_is_not_live(runner: ShardRunner, clock: Clock) -> None:
    http = client(runner)
    clock.now_ms = LIVE_WITHIN_MS - 1
    assert http.get("/livez").status_code == 200
    clock.now_ms = LIVE_WITHIN_MS
    assert http.get("/livez").status_code == 503


def test_a_loop_that_has_ended_is_not_live(runner: ShardRunner, log: SlowLog) -> None:
    runner.inbox.ask_to_stop()
    log.may_return.set()
    assert runner.join(60)
    assert client(runner).get("/livez").status_code == 503


def test_a_halted_shard_is_live_and_not_ready(
    runner: ShardRunner, log: SlowLog, clock: Clock
) -> None:
    """A restart would not help, and would end the access to its state."""
    log.error = ShardHalted("evolve failed")
    log.may_return.set()
    assert runner.join(60)
    clock.now_ms = 10 * LIVE_WITHIN_MS
    assert client(runner).get("/livez").status_code == 200
    ready = client(runner).get("/readyz")
    assert (ready.status_code, ready.json) == (503, {"ready": False, "shards": {"0": "halted"}})


# --- bad requests ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/leader", "/query/0"])
def test_a_query_string_that_is_not_utf_8_is_a_400(path: str) -> None:
    raw = {"QUERY_STRING": "shard=\xff"}  # as WSGI has it: bytes as Latin-1
    answer = client(shard(0, "leader")).get(path, environ_overrides=raw)
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
    answer = client(shard(0, "leader")).open(path, method=method)
    assert answer.status_code == status
    assert error_of(answer)
    assert ("Allow" in answer.headers) == (status == 405)


def error_of(answer: Any) -> str:
    assert answer.content_type == "application/json"
    (message,) = json.loads(answer.text).values()
    assert list(json.loads(answer.text)) == ["error"]
    assert isinstance(message, str)
    return message
