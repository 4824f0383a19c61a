"""The whole system as `./postjournal up` starts it, on a real Kafka, with real signals."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import psutil
import pytest
import requests
from confluent_kafka import Consumer, TopicPartition

from postjournal.cli.errors import OperationFailed
from postjournal.cli.handover import hand_over
from postjournal.cli.local import processes
from postjournal.cli.local.status import SystemStatus
from postjournal.cli.local.system import LocalSystem
from tests.support.services import without_repeats

pytestmark = pytest.mark.kafka

TIMEOUT_S = 180
ATTEMPTS = 20
"""Of an operation that an election can interrupt: a busy machine may elect at any moment."""

Json = dict[str, Any]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSystem]:
    local = LocalSystem(tmp_path_factory.mktemp("system"))
    local.start(replicas=3)
    try:
        yield local
    finally:
        local.stop()
        local.delete_data()


def post(system: LocalSystem, body: Json, prefer: str = "wait=5") -> requests.Response:
    url = f"{system.plan.url('producer')}/api/v1/commands"
    return requests.post(url, json=body, headers={"Prefer": prefer}, timeout=60)


def run(system: LocalSystem, **command: Any) -> Json:
    """The result of one command, which is sent again while the leader changes."""
    body = {"id": uuid.uuid4().hex} | command
    deadline = time.monotonic() + TIMEOUT_S
    while (answer := post(system, body)).status_code != 200:
        assert answer.status_code in (202, 503), answer.text
        assert time.monotonic() < deadline, answer.text
    result: Json = answer.json()
    return result


def send(system: LocalSystem, command: Json) -> None:
    """Send a command until the gateway accepts it; a repeated id is the same command."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            if post(system, command, prefer="respond-async").status_code in (200, 202):
                return
        except requests.RequestException:
            pass
        time.sleep(0.1)
    raise AssertionError(f"the gateway did not accept {command}")


def wait_for(system: LocalSystem, condition: Callable[[SystemStatus], bool]) -> SystemStatus:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition(status := system.status()):
        assert time.monotonic() < deadline, status
        time.sleep(0.05)
    return status


def all_agree(status: SystemStatus) -> bool:
    """All replicas are in sync at the same position and digest, and one leads."""
    positions = {(row.seq, row.digest, row.epoch, row.leader) for row in status.replicas}
    states = sorted(row.state for row in status.replicas)
    return len(positions) == 1 and states == ["leader", *["standby"] * (len(states) - 1)]


def epoch_of(status: SystemStatus) -> int:
    return max(row.epoch or 0 for row in status.replicas)


def read_results(system: LocalSystem, wanted: set[str]) -> list[Json]:
    """Read the results topic from its start until it contains all wanted ids."""
    plan = system.plan
    consumer = Consumer({"bootstrap.servers": plan.address("kafka"), "group.id": "e2e"})
    consumer.assign([TopicPartition(f"{plan.namespace}.results", 0, 0)])
    results: list[Json] = []
    deadline = time.monotonic() + TIMEOUT_S
    missing = set(wanted)
    while missing and time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            result = msgspec.json.decode(message.value() or b"", type=Json)
            results.append(result)
            missing.discard(result["id"])
    consumer.close()
    assert not missing, f"{len(missing)} results are missing, such as {min(missing)}"
    return results


def test_a_transfer_is_answered_with_its_result(system: LocalSystem) -> None:
    for account in ("alice", "bob"):
        assert run(system, type="open", account=account)["status"] == "accepted"
    run(system, type="deposit", account="alice", amount=100)
    moved = run(system, **{"type": "transfer", "from": "alice", "to": "bob", "amount": 30})
    assert (moved["status"], moved["balances"]) == ("accepted", {"alice": 70, "bob": 30})
    refused = run(system, **{"type": "transfer", "from": "bob", "to": "alice", "amount": 31})
    assert (refused["status"], refused["reason"]) == ("rejected", "insufficient_funds")


def test_a_killed_leader_loses_nothing_repeats_nothing_and_restarts(system: LocalSystem) -> None:
    run(system, type="open", account="stream")
    before = wait_for(system, all_agree)
    killed = before.leader()
    assert killed is not None
    ids = [f"stream-{i}" for i in range(400)]
    kill = threading.Thread(target=system.kill, args=[killed])
    for i, command_id in enumerate(ids):
        if i == 200:
            kill.start()
        send(system, {"id": command_id, "type": "deposit", "account": "stream", "amount": 1})

    kill.join()

    kept = without_repeats(read_results(system, set(ids)))
    counted = [result["id"] for result in kept if not result["replayed"]]
    assert [name for name in counted if name.startswith("stream-")] == ids
    assert kept[-1]["balances"] == {"stream": 400}

    after = wait_for(system, all_agree)
    assert epoch_of(after) > epoch_of(before)
    pids = {row.name: row.pid for row in before.replicas}
    assert [row.name for row in after.replicas if row.pid != pids[row.name]] == [killed]


def test_a_paused_leader_is_replaced_and_follows_when_it_resumes(system: LocalSystem) -> None:
    before = wait_for(system, all_agree)
    paused = before.leader()
    assert paused is not None
    system.pause(paused)
    try:
        status = wait_for(system, lambda now: now.leader() not in (None, paused))
        assert {row.state for row in status.replicas if row.name == paused} == {"paused"}
        assert run(system, type="deposit", account="stream", amount=1)["status"] == "accepted"
    finally:
        system.resume(paused)
    assert epoch_of(wait_for(system, all_agree)) > epoch_of(before)


def test_a_handover_makes_the_named_standby_lead(system: LocalSystem) -> None:
    for _ in range(ATTEMPTS):
        status = wait_for(system, all_agree)
        successor = next(row.name for row in status.replicas if row.state == "standby")
        try:
            result = hand_over(system, 0, successor)
        except OperationFailed:  # another replica leads by now
            continue
        after = wait_for(system, all_agree).leader()
        if (result.previous, result.leader, after) == (status.leader(), successor, successor):
            return
    raise AssertionError(status)


def test_a_stopped_leader_hands_over_and_can_be_started_again(system: LocalSystem) -> None:
    before = wait_for(system, all_agree)
    stopped = before.leader()
    assert stopped is not None
    system.stop_replica(stopped)
    status = wait_for(system, lambda now: now.leader() not in (None, stopped))
    assert {row.state for row in status.replicas if row.name == stopped} == {"down"}
    system.start_replica(stopped)
    assert epoch_of(wait_for(system, all_agree)) > epoch_of(before)


def test_all_services_run_and_are_listed(system: LocalSystem) -> None:
    services = system.status().services
    assert {row.state for row in services.values()} == {"running"}
    assert {"kafka", "redis", "producer", "leader-view", "coordinator"} <= services.keys()


def test_stopping_ends_every_process_including_paused_ones(system: LocalSystem) -> None:
    token = system.plan.token
    started = [process.pid for process in processes.of_system(token)]
    system.pause("replica-2")
    system.stop()
    assert processes.of_system(token) == []
    assert not any(psutil.pid_exists(pid) for pid in started)
    with pytest.raises(OperationFailed, match="not running"):
        system.status()
