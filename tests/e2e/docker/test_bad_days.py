"""Containers killed, paused, cut off and restarted under load: nothing lost, nothing twice."""

from __future__ import annotations

import pytest
import requests

from postjournal.cli.docker import engine
from postjournal.cli.docker.containers import containers
from postjournal.cli.docker.system import DockerSystem
from postjournal.cli.handover import hand_over
from postjournal.cli.running_system import coordinator_of
from tests.support.containers import (
    container_of,
    is_complete,
    leader_of,
    logs_of,
    secret,
    took_over_from,
    wait_for,
)
from tests.support.http_load import HttpLoad
from tests.support.services import eventually

pytestmark = pytest.mark.kafka


def test_a_killed_leader_is_replaced(system: DockerSystem, load: HttpLoad) -> None:
    killed = leader_of(system)
    system.kill(killed)
    load.wait_for_more(20)
    wait_for(system, took_over_from(killed))
    system.start_replica(killed)


def test_a_paused_leader_is_replaced_and_harms_nobody_when_it_wakes(
    system: DockerSystem, load: HttpLoad
) -> None:
    paused = leader_of(system)
    system.pause(paused)
    load.wait_for_more(20)
    wait_for(system, took_over_from(paused))
    system.resume(paused)


def test_a_leader_cut_off_the_network_is_replaced(system: DockerSystem, load: HttpLoad) -> None:
    cut_off = system.disconnect(leader_of(system))
    load.wait_for_more(20)
    wait_for(system, took_over_from(cut_off.hostname))
    system.reconnect(cut_off)


def test_a_restarted_broker_loses_nothing(system: DockerSystem, load: HttpLoad) -> None:
    engine.run("restart", container_of("kafka").name, timeout_s=60)
    load.wait_for_more(20)


def test_a_handover_by_the_operator(system: DockerSystem, load: HttpLoad) -> None:
    done = hand_over(system, 0, None)
    assert done.leader != done.previous


def test_a_leader_that_is_stopped_resigns_within_its_grace_period(
    system: DockerSystem, load: HttpLoad
) -> None:
    stopped = leader_of(system)
    container = next(each for each in containers() if each.hostname == stopped)
    system.stop_replica(stopped)
    exit_code = engine.run("inspect", "--format", "{{.State.ExitCode}}", container.name)
    assert exit_code.strip() == b"0"
    wait_for(system, took_over_from(stopped))
    logs = "".join(logs_of(each) for each in containers() if each.service == "replica")
    assert f"took over from {stopped} in" in logs
    assert "(resigned;" in logs[logs.index(f"took over from {stopped} in") :]
    system.start_replica(stopped)


def test_a_snapshot_is_taken_under_load_and_a_killed_replica_restores_it(
    system: DockerSystem, load: HttpLoad
) -> None:
    coordinator = coordinator_of(system)
    identity, rows = coordinator.request_snapshot(None, allow_leader=False)
    eventually(lambda: {row.state for row in coordinator.snapshot(identity)} == {"done"})
    killed = rows[0].replica
    system.kill(killed)
    load.wait_for_more(20)
    system.start_replica(killed)
    restored = next(each for each in containers() if each.hostname == killed)
    eventually(lambda: identity in logs_of(restored), timeout_s=30)


def test_what_changes_the_system_needs_the_token(system: DockerSystem) -> None:
    url = system.plan.url("coordinator")
    for path in ("handover", "snapshots", "snapshot"):
        refused = requests.post(f"{url}/api/v1/{path}", json={}, timeout=5)
        assert refused.status_code == 401
        wrong = {"Authorization": "Bearer wrong"}
        refused = requests.post(f"{url}/api/v1/{path}", json={}, headers=wrong, timeout=5)
        assert refused.status_code == 401
    assert requests.get(f"{url}/api/v1/cluster", timeout=5).ok


def test_the_past_is_told_to_who_has_the_token(system: DockerSystem, load: HttpLoad) -> None:
    accounts = f"{system.plan.url('producer')}/api/v1/accounts"
    now = requests.get(f"{accounts}/{load.account}", timeout=10).json()
    url = f"{system.plan.url('coordinator')}/api/v1/query"
    asked = {"account": load.account, "at": f"seq:{now['seq']}"}
    load.wait_for_more(20)
    assert requests.get(url, params=asked, timeout=60).status_code == 401
    token = {"Authorization": f"Bearer {system.credentials['POSTJOURNAL_API_TOKEN']}"}
    answer = requests.get(url, params=asked, headers=token, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["answer"]["balance"] == now["balance"]


def test_views_in_redis_follow(system: DockerSystem, load: HttpLoad) -> None:
    redis, password = container_of("redis").name, secret("operator", "redis-password")

    def ask(*command: str) -> str:
        arguments = ("exec", "-e", f"REDISCLI_AUTH={password}", redis, "redis-cli")
        return engine.run(*arguments, "--user", "operator", *command).decode().strip()

    eventually(lambda: ask("hget", "ledger:shard:0", "leader") == leader_of(system))
    eventually(lambda: int(ask("hget", "ledger:balances:0", load.account)) > 0)


def test_commands_go_on_while_a_standby_is_away(system: DockerSystem, load: HttpLoad) -> None:
    status = wait_for(system, is_complete)
    standby = next(row.name for row in status.replicas if row.state == "standby")
    system.kill(standby)
    load.wait_for_more(20)
    assert system.status().leader() == status.leader()
    system.start_replica(standby)
