"""The commands with Docker, on a fake `docker` that records its calls."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from postjournal.cli.docker import engine
from postjournal.cli.docker import system as docker_system
from postjournal.cli.docker.containers import Container
from postjournal.cli.docker.plan import DockerPlan
from postjournal.cli.local.status import StateResponse
from postjournal.cli.local.system import LocalSystem
from postjournal.cli.main import main
from tests.support.services import replica_status

SCRIPT = """#!/bin/sh
here=${0%/*}
echo "$@" >>"$here/calls"
test ! -e "$here/$1" || cat "$here/$1"
"""


class FakeDocker:
    """Prints the output that a test sets for `docker VERB …`; nothing by default."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        path = directory / "docker"
        path.write_text(SCRIPT)
        path.chmod(0o755)

    def set_output(self, verb: str, text: str) -> None:
        (self._directory / verb).write_text(text)

    def calls(self, verb: str) -> list[str]:
        lines = (self._directory / "calls").read_text().splitlines()
        return [line for line in lines if line.split()[0] == verb]


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    """An engine that answers and has no containers; no local processes run either."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(LocalSystem.__init__, "__defaults__", (tmp_path / "state",))
    monkeypatch.setattr(engine, "COMPOSE_FILE", tmp_path)
    return FakeDocker(folder)


def run(command: str) -> Result:
    return CliRunner().invoke(main, command.split())


def test_wiping_deletes_the_volumes_of_containers_that_are_down(docker: FakeDocker) -> None:
    docker.set_output("volume", "postjournal_kafka-data\n")
    assert run("down --wipe").exit_code == 0
    assert docker.calls("compose") == ["compose down --remove-orphans --volumes"]


def test_wiping_deletes_the_volumes_of_override_files(docker: FakeDocker) -> None:
    docker.set_output("volume", "postjournal_kafka-2-data\npostjournal_kafka-3-data\n")
    assert run("down --wipe").exit_code == 0
    removed = "volume rm postjournal_kafka-2-data postjournal_kafka-3-data"
    assert docker.calls("volume")[-1] == removed


def test_without_wipe_the_volumes_of_containers_that_are_down_stay(docker: FakeDocker) -> None:
    docker.set_output("volume", "postjournal_kafka-data\n")
    result = run("down")
    assert (result.exit_code, result.stdout) == (0, "nothing is running\n")
    assert not docker.calls("compose")


def test_wiping_deletes_local_data_if_there_are_no_volumes(
    docker: FakeDocker, tmp_path: Path
) -> None:
    data = tmp_path / "state" / "data"
    data.mkdir(parents=True)
    result = run("down --wipe")
    assert (result.exit_code, result.stdout) == (0, "nothing is running\n")
    assert not docker.calls("compose")
    assert not data.exists()


def inspected(service: str) -> dict[str, object]:
    """The output of `docker inspect` for a container of a system that requires credentials."""
    return {
        "Name": f"/postjournal-{service}-1",
        "Config": {
            "Labels": {"com.docker.compose.service": service},
            "Env": ["POSTJOURNAL_KAFKA_USERNAME=replica"],
            "Hostname": service,
        },
        "State": {"Status": "running", "Pid": 1},
        "NetworkSettings": {"Networks": {}, "Ports": None},
    }


def test_a_missing_secrets_container_is_reported_with_its_fix(
    docker: FakeDocker,
) -> None:
    docker.set_output("ps", "1\n")
    docker.set_output("inspect", json.dumps([inspected("replica")]))
    result = run("status")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: the container `secrets`")
    assert "`./postjournal up`" in result.stderr


@pytest.mark.parametrize("command", ["up --docker --json", "down"])
def test_the_output_of_compose_goes_to_stderr(
    command: str, docker: FakeDocker, capfd: pytest.CaptureFixture[str]
) -> None:
    docker.set_output("ps", "1\n")
    docker.set_output("inspect", json.dumps([inspected("replica")]))
    docker.set_output("compose", "output of compose\n")
    result = run(command)
    assert (result.exit_code, docker.calls("compose") != []) == (0, True)
    if "--json" in command:
        assert json.loads(result.stdout) == {}
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "output of compose\n")


def test_logs_of_containers_go_to_stdout(
    docker: FakeDocker, capfd: pytest.CaptureFixture[str]
) -> None:
    docker.set_output("ps", "1\n")
    docker.set_output("inspect", json.dumps([inspected("replica")]))
    docker.set_output("compose", "replica-1 | leads\n")
    assert run("logs").exit_code == 0
    assert capfd.readouterr().out == "replica-1 | leads\n"


@pytest.fixture
def replica_of_two_shards(docker: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    """A container that leads shard 1; shard 0 has not reported."""
    replica = inspected("replica")
    replica["Config"] = {
        "Labels": {"com.docker.compose.service": "replica"},
        "Env": ["POSTJOURNAL_SHARDS=2"],
        "Hostname": "r1",
    }
    docker.set_output("ps", "1\n")
    docker.set_output("inspect", json.dumps([replica]))
    state = StateResponse("r1", 1, [replica_status("r1", "leader", 1, "r1", shard=1, pid=42)])
    monkeypatch.setattr(docker_system, "_fetch_states", lambda _: {"r1": state})
    return docker


@pytest.mark.parametrize(
    ("command", "signal"), [("kill", "-9"), ("pause", "-19"), ("resume", "-18")]
)
@pytest.mark.skipif(sys.platform != "linux", reason="the numbers of signals are those of Linux")
def test_a_single_engine_is_signaled_within_its_container(
    replica_of_two_shards: FakeDocker, command: str, signal: str
) -> None:
    result = run(f"{command} leader --engine --shard 1")
    assert result.exit_code == 0
    assert "the engine of shard 1 of r1 (postjournal-replica-1)" in result.stdout
    (call,) = replica_of_two_shards.calls("exec")
    assert call == f"exec postjournal-replica-1 bash -c kill {signal} 42"


@pytest.mark.parametrize(
    ("shard", "exit_code", "why"),
    [(0, 1, "r1 has no engine of shard 0 now"), (7, 3, "r1 has no shard 7")],
)
def test_a_container_without_the_engine_is_reported(
    replica_of_two_shards: FakeDocker, shard: int, exit_code: int, why: str
) -> None:
    result = run(f"kill r1 --engine --shard {shard}")
    assert (result.exit_code, why in result.stderr) == (exit_code, True)
    assert not replica_of_two_shards.calls("exec")


def test_an_empty_variable_of_a_replica_means_the_default() -> None:
    replica = Container(
        name="postjournal-replica-1",
        service="replica",
        hostname="r",
        state="running",
        pid=1,
        environment={"POSTJOURNAL_SHARDS": "", "POSTJOURNAL_NAMESPACE": ""},
        networks={},
        ports={},
    )
    plan = DockerPlan((replica,))
    assert (plan.shards, plan.namespace) == (1, "ledger")
