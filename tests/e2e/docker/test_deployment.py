"""What the deployment's containers may do, and what they tell."""

from __future__ import annotations

import json

import pytest
import requests

from postjournal.cli.docker import engine
from postjournal.cli.docker.containers import containers
from postjournal.cli.docker.system import DockerSystem
from tests.support.containers import container_of, logs_of

pytestmark = pytest.mark.kafka

OURS = (
    *("replica", "producer", "coordinator"),
    *("consumer-results", "consumer-balances", "leader-view"),
)


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
    made_them = container_of("secrets")
    listed = engine.run("cp", f"{made_them.name}:/vault/.", "-")
    secrets = {word for word in listed.decode(errors="ignore").split("\0") if len(word) == 40}
    assert len(secrets) > 15
    for each in containers():
        text = logs_of(each) + " ".join(each.environment.values())
        assert not [secret for secret in secrets if secret in text], each.name
