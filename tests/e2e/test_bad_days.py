"""Kafka and Redis unavailable during load: nothing is lost, and the leader does not change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from postjournal.cli.local.status import SystemStatus
from postjournal.cli.local.system import LocalSystem

pytestmark = pytest.mark.kafka

OUTAGE_S = 20
ATTEMPTS = 5
"""A machine that is busy starting a broker may change the leader, but not each time."""


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
    """Resend the command with its id until there is a result, as clients do."""
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
        positions = {(row.seq, row.digest, row.epoch, row.leader) for row in status.replicas}
        states = {row.state for row in status.replicas}
        if len(positions) == 1 and states == {"leader", "standby"}:
            return status
        assert time.monotonic() < deadline, status
        time.sleep(0.1)


def test_a_kafka_outage_loses_nothing_and_changes_no_leader(system: LocalSystem) -> None:
    post_until_decided(system, {"id": "open", "type": "open", "account": "a"})
    balance = 0
    for attempt in range(ATTEMPTS):
        before = settled(system)
        balance = stop_and_start_kafka(system, f"outage-{attempt}", balance)
        if leadership(settled(system)) == leadership(before):
            return
    raise AssertionError(f"the leader has changed each of {ATTEMPTS} times")


def leadership(status: SystemStatus) -> set[tuple[str | None, int | None]]:
    return {(row.leader, row.epoch) for row in status.replicas}


def stop_and_start_kafka(system: LocalSystem, name: str, balance: int) -> int:
    """Send deposits during an outage of `OUTAGE_S` and after it; returns the balance."""
    system.stop_replica("kafka")
    answers: list[requests.Response] = []
    stopped = time.monotonic()
    while time.monotonic() - stopped < OUTAGE_S:
        answers.append(post(system, deposit(f"{name}-{len(answers)}")))
        time.sleep(0.5)
    system.start_replica("kafka")

    # None is reported as failed: either it was not sent, or its outcome is unknown.
    assert {answer.status_code for answer in answers} <= {202, 503}
    refused = [answer for answer in answers if answer.status_code == 503]
    assert refused
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
    assert {answer.json()["outcome"] for answer in refused} <= {"unknown", "not_accepted"}

    for n in range(len(answers)):
        post_until_decided(system, deposit(f"{name}-{n}"))
    last = post_until_decided(system, deposit(f"{name}-last"))
    balance += len(answers) + 1
    assert last["balances"] == {"a": balance}, "each exactly once"
    return balance


def test_a_redis_outage_stops_no_command_and_the_projection_catches_up(system: LocalSystem) -> None:
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
    """The gateway's answer, as soon as there is a leader."""
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
