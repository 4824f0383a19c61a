"""Kafka and Redis away in the middle: nothing is lost, and no leader changes for nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from postjournal.cli.local.status import SystemStatus
from postjournal.cli.local.system import LocalSystem

pytestmark = pytest.mark.kafka

AWAY_S = 20
ATTEMPTS = 5
"""Busy with a starting broker, a machine may change the leader too, but not each time."""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSystem]:
    local = LocalSystem(tmp_path_factory.mktemp("bad-days"))
    local.start(replicas=3)
    try:
        yield local
    finally:
        local.stop()
        local.delete_data()


def post(system: LocalSystem, command: dict[str, Any]) -> requests.Response:
    url = f"{system.plan.url('producer')}/api/v1/commands"
    return requests.post(url, json=command, headers={"Prefer": "wait=5"}, timeout=60)


def deposit(command_id: str) -> dict[str, Any]:
    return {"id": command_id, "type": "deposit", "account": "a", "amount": 1}


def post_until_decided(system: LocalSystem, command: dict[str, Any]) -> dict[str, Any]:
    """As a client does that was told to retry: the same id until there is a result."""
    deadline = time.monotonic() + 180
    while (answer := post(system, command)).status_code != 200:
        assert answer.status_code in (202, 503), answer.text
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.2)
    result: dict[str, Any] = answer.json()
    return result


def settled(system: LocalSystem) -> SystemStatus:
    deadline = time.monotonic() + 180
    while True:
        status = system.status()
        places = {(row.seq, row.digest, row.epoch, row.leader) for row in status.replicas}
        states = {row.state for row in status.replicas}
        if len(places) == 1 and states == {"leader", "standby"}:
            return status
        assert time.monotonic() < deadline, status
        time.sleep(0.1)


def test_kafka_away_loses_nothing_and_changes_no_leader(system: LocalSystem) -> None:
    post_until_decided(system, {"id": "open", "type": "open", "account": "a"})
    balance = 0
    for attempt in range(ATTEMPTS):
        before = settled(system)
        balance = kafka_away(system, f"away-{attempt}", balance)
        if leadership(settled(system)) == leadership(before):
            return
    raise AssertionError(f"the leader has changed each of {ATTEMPTS} times")


def leadership(status: SystemStatus) -> set[tuple[str | None, int | None]]:
    return {(row.leader, row.epoch) for row in status.replicas}


def kafka_away(system: LocalSystem, name: str, balance: int) -> int:
    """For a while, with deposits going on; the balance after them."""
    system.stop_replica("kafka")
    refused: list[requests.Response] = []
    gone = time.monotonic()
    while time.monotonic() - gone < AWAY_S:
        refused.append(post(system, deposit(f"{name}-{len(refused)}")))
        time.sleep(0.5)
    system.start_replica("kafka")

    # Not one is called failed: either it was not sent, or its outcome is unknown.
    assert {answer.status_code for answer in refused} <= {202, 503}
    told = [answer for answer in refused if answer.status_code == 503]
    assert told
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in told)
    assert {answer.json()["outcome"] for answer in told} <= {"unknown", "not_accepted"}

    for n in range(len(refused)):
        post_until_decided(system, deposit(f"{name}-{n}"))
    last = post_until_decided(system, deposit(f"{name}-last"))
    balance += len(refused) + 1
    assert last["balances"] == {"a": balance}, "each exactly once"
    return balance


def test_redis_away_stops_nothing_and_the_projection_catches_up(system: LocalSystem) -> None:
    redis = _redis(system)
    result = post_until_decided(system, deposit("before-redis"))
    system.stop_replica("redis")
    for n in range(20):
        result = post_until_decided(system, deposit(f"without-redis-{n}"))
    assert balance_of(system, "a") == result["balances"]["a"]
    system.start_replica("redis")
    deadline = time.monotonic() + 180
    while redis() != result["balances"]["a"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def balance_of(system: LocalSystem, account: str) -> int:
    """As the gateway tells it, as soon as some leader can."""
    url = f"{system.plan.url('producer')}/api/v1/accounts/{account}"
    deadline = time.monotonic() + 180
    while (answer := requests.get(url, timeout=60)).status_code != 200:
        assert answer.status_code == 503, answer.text
        assert time.monotonic() < deadline, answer.text
    found: int = answer.json()["balance"]
    return found


def _redis(system: LocalSystem) -> Any:
    import redis

    client = redis.Redis.from_url(system.plan.redis_url, decode_responses=True)

    def balance() -> int | None:
        try:
            found = client.hget(f"{system.plan.namespace}:balances:0", "a")
        except (redis.ConnectionError, redis.TimeoutError):
            return None
        return int(found) if isinstance(found, str) else None

    return balance
