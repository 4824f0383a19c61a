"""The commands with Docker, by a `docker` that only notes what it is asked."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from postjournal.cli.docker import engine
from postjournal.cli.docker.containers import Container
from postjournal.cli.docker.plan import DockerPlan
from postjournal.cli.local.system import LocalSystem
from postjournal.cli.main import main

SCRIPT = """#!/bin/sh
here=${0%/*}
echo "$@" >>"$here/asked"
test ! -e "$here/$1" || cat "$here/$1"
"""


class FakeDocker:
    """Answers `docker VERB …` with what a test says that VERB tells; nothing by default."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        path = directory / "docker"
        path.write_text(SCRIPT)
        path.chmod(0o755)

    def tells(self, verb: str, text: str) -> None:
        (self._directory / verb).write_text(text)

    def asked(self, verb: str) -> list[str]:
        lines = (self._directory / "asked").read_text().splitlines()
        return [line for line in lines if line.split()[0] == verb]


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    """An engine that answers, without containers; nothing runs as local processes either."""
    place = tmp_path / "bin"
    place.mkdir()
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    monkeypatch.setattr(LocalSystem.__init__, "__defaults__", (tmp_path / "state",))
    monkeypatch.setattr(engine, "COMPOSE_FILE", tmp_path)
    return FakeDocker(place)


def run(command: str) -> Result:
    return CliRunner().invoke(main, command.split())


def test_data_in_containers_is_wiped_though_they_are_down_already(docker: FakeDocker) -> None:
    docker.tells("volume", "postjournal_kafka-data\n")
    assert run("down --wipe").exit_code == 0
    assert docker.asked("compose") == ["compose down --remove-orphans --volumes"]


def test_data_of_override_files_is_wiped_as_well(docker: FakeDocker) -> None:
    docker.tells("volume", "postjournal_kafka-2-data\npostjournal_kafka-3-data\n")
    assert run("down --wipe").exit_code == 0
    removed = "volume rm postjournal_kafka-2-data postjournal_kafka-3-data"
    assert docker.asked("volume")[-1] == removed


def test_data_in_containers_that_are_down_stays_when_nobody_wipes(docker: FakeDocker) -> None:
    docker.tells("volume", "postjournal_kafka-data\n")
    result = run("down")
    assert (result.exit_code, result.stdout) == (0, "nothing is running\n")
    assert not docker.asked("compose")


def test_local_data_is_wiped_where_docker_has_none(docker: FakeDocker, tmp_path: Path) -> None:
    data = tmp_path / "state" / "data"
    data.mkdir(parents=True)
    result = run("down --wipe")
    assert (result.exit_code, result.stdout) == (0, "nothing is running\n")
    assert not docker.asked("compose")
    assert not data.exists()


def told_of(service: str) -> dict[str, object]:
    """What `docker inspect` says of a container of a Kafka that wants to know who asks."""
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


def test_when_the_container_of_the_secrets_is_gone_the_way_back_is_told(docker: FakeDocker) -> None:
    docker.tells("ps", "1\n")
    docker.tells("inspect", json.dumps([told_of("replica")]))
    result = run("status")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: the container `secrets`")
    assert "`./postjournal up`" in result.stderr


@pytest.mark.parametrize("command", ["up --docker --json", "down"])
def test_what_compose_says_is_progress_and_no_answer(
    command: str, docker: FakeDocker, capfd: pytest.CaptureFixture[str]
) -> None:
    docker.tells("ps", "1\n")
    docker.tells("inspect", json.dumps([told_of("replica")]))
    docker.tells("compose", "compose's own words\n")
    result = run(command)
    assert (result.exit_code, docker.asked("compose") != []) == (0, True)
    if "--json" in command:
        assert json.loads(result.stdout) == {}
    told = capfd.readouterr()
    assert (told.out, told.err) == ("", "compose's own words\n")


def test_logs_of_containers_are_an_answer(
    docker: FakeDocker, capfd: pytest.CaptureFixture[str]
) -> None:
    docker.tells("ps", "1\n")
    docker.tells("inspect", json.dumps([told_of("replica")]))
    docker.tells("compose", "replica-1 | leads\n")
    assert run("logs").exit_code == 0
    assert capfd.readouterr().out == "replica-1 | leads\n"


def test_what_replicas_were_told_with_empty_variables_is_the_default() -> None:
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
