"""The deployment on a real Docker engine, under load, on its bad days."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
import requests

from postjournal.cli.docker import engine
from postjournal.cli.docker.containers import Container, containers, read_file
from postjournal.cli.docker.system import DockerSystem
from postjournal.cli.handover import hand_over
from postjournal.cli.local.status import SystemStatus
from tests.e2e.docker_kit import deployment, docker_engine
from tests.e2e.http_load import HttpLoad
from tests.integration.services_kit import eventually

pytestmark = pytest.mark.kafka

OURS = ("replica", "producer", "consumer-results", "consumer-balances", "leader-view")
SETTLE_S = 60.0


@pytest.fixture(scope="module")
def system() -> Iterator[DockerSystem]:
    with docker_engine(), deployment():
        found = DockerSystem()
        found.prove_identity()
        yield found


@pytest.fixture
def load(system: DockerSystem) -> Iterator[HttpLoad]:
    """Load during the test; after it, every command took effect once and all replicas agree."""
    with HttpLoad(system.plan.url("producer")) as clients:
        clients.wait_for_more(20)
        yield clients
        clients.wait_for_more(50)
    assert clients.balance == clients.decided
    assert clients.wrong == []
    wait_for(system, all_agree)


def wait_for(system: DockerSystem, condition: Callable[[SystemStatus], bool]) -> SystemStatus:
    deadline = time.monotonic() + SETTLE_S
    while not condition(status := system.status()):
        assert time.monotonic() < deadline, status
        time.sleep(0.1)
    return status


def all_agree(status: SystemStatus) -> bool:
    places = {(row.seq, row.digest, row.epoch, row.leader) for row in status.replicas}
    return len(places) == 1 and is_complete(status)


def is_complete(status: SystemStatus) -> bool:
    """One leader, and all others could take over."""
    states = sorted(row.state for row in status.replicas)
    return states == ["leader", *["standby"] * (len(states) - 1)]


def leader_of(system: DockerSystem) -> str:
    leader = wait_for(system, lambda status: status.leader() is not None).leader()
    assert leader is not None
    return leader


def took_over_from(previous: str) -> Callable[[SystemStatus], bool]:
    return lambda status: status.leader() not in (None, previous)


# --- bad days -------------------------------------------------------------------------------


def test_a_killed_leader_is_replaced(system: DockerSystem, load: HttpLoad) -> None:
    killed = leader_of(system)
    system.kill(killed)
    load.wait_for_more(20)
    wait_for(system, took_over_from(killed))
    system.revive(killed)


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
    engine.run("restart", _container("kafka").name, timeout_s=60)
    load.wait_for_more(20)


def test_a_handover_by_the_operator(system: DockerSystem, load: HttpLoad) -> None:
    done = hand_over(system, 0, None)
    assert done.leader != done.previous


def test_a_leader_that_is_stopped_resigns_within_its_grace_period(
    system: DockerSystem, load: HttpLoad
) -> None:
    stopped = leader_of(system)
    container = _container_named(stopped)
    system.stop_replica(stopped)
    exit_code = engine.run("inspect", "--format", "{{.State.ExitCode}}", container.name)
    assert exit_code.strip() == b"0"
    wait_for(system, took_over_from(stopped))
    logs = "".join(_logs(each) for each in containers() if each.service == "replica")
    assert f"took over from {stopped} in" in logs
    assert "(resigned;" in logs[logs.index(f"took over from {stopped} in") :]
    system.revive(stopped)


# --- what the deployment is -----------------------------------------------------------------


def test_everything_is_healthy_and_listed(system: DockerSystem) -> None:
    services = system.status().services
    assert {row.state for row in services.values()} == {"running"}
    assert {"kafka", "redis", "minio", *OURS} - {"replica"} <= services.keys()


def test_containers_can_write_nothing_have_no_privileges_and_bounded_memory(
    system: DockerSystem,
) -> None:
    told = json.loads(engine.run("inspect", *(each.name for each in containers())))
    for each in told:
        host, name = each["HostConfig"], each["Name"]
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert host["SecurityOpt"] == ["no-new-privileges:true"], name
        assert host["LogConfig"]["Config"]["max-size"], name
        service = each["Config"]["Labels"]["com.docker.compose.service"]
        if service in OURS:
            assert each["Config"]["User"] == "10001:10001"
            assert host["Memory"] > 0
        for published in (host["PortBindings"] or {}).values():
            assert {place["HostIp"] for place in published} == {"127.0.0.1"}


def test_the_public_port_shows_no_metrics_and_refuses_large_bodies(system: DockerSystem) -> None:
    url = system.plan.url("producer")
    assert requests.get(f"{url}/metrics", timeout=5).status_code == 404
    body = b"[" + b" " * 20_000_000 + b"]"
    headers = {"Content-Type": "application/json"}
    refused = requests.post(f"{url}/api/v1/commands", data=body, headers=headers, timeout=20)
    assert refused.status_code == 413


def test_no_secret_is_in_a_log_or_in_an_environment(system: DockerSystem) -> None:
    made_them = _container("secrets")
    listed = engine.run("cp", f"{made_them.name}:/vault/.", "-")
    secrets = {word for word in listed.decode(errors="ignore").split("\0") if len(word) == 40}
    assert len(secrets) > 15
    for each in containers():
        text = _logs(each) + " ".join(each.environment.values())
        assert not [secret for secret in secrets if secret in text], each.name


def test_views_in_redis_follow(system: DockerSystem, load: HttpLoad) -> None:
    redis = _container("redis").name

    def ask(*command: str) -> str:
        password = _operators("redis-password")
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
    system.revive(standby)


def _container(service: str) -> Container:
    return next(each for each in containers() if each.service == service)


def _container_named(hostname: str) -> Container:
    return next(each for each in containers() if each.hostname == hostname)


def _operators(name: str) -> str:
    return read_file(_container("secrets").name, f"/secrets/operator/{name}")


def _logs(container: Container) -> str:
    done = subprocess.run(["docker", "logs", container.name], capture_output=True, check=True)
    return (done.stdout + done.stderr).decode(errors="replace")
