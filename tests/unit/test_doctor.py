"""The findings of the doctor, and its advice."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from click.testing import CliRunner

from postjournal.cli.doctor.diagnosis import Finding, State, diagnose
from postjournal.cli.doctor.machine import Machine, PortInUse
from postjournal.cli.main import main

HEALTHY = Machine()


def problems(**changes: object) -> list[Finding]:
    machine = replace(HEALTHY, **changes)  # type: ignore[arg-type]
    return [finding for finding in diagnose(machine) if finding.state is not State.GOOD]


def test_a_healthy_machine_has_no_problem_even_without_docker() -> None:
    assert problems() == []
    assert len(diagnose(HEALTHY)) > 8


@pytest.mark.parametrize(
    ("changes", "name", "state", "advice"),
    [
        ({"python": (3, 10)}, "python", State.BAD, "3.11"),
        ({"java": None}, "java", State.BAD, "Java 17"),
        ({"java": "11"}, "java", State.BAD, "Java 17"),
        ({"java": ""}, "java", State.BAD, "Java 17"),
        ({"maven": False}, "kafka", State.BAD, "Maven"),
        ({"memory_available": 1 << 29}, "memory", State.BAD, "replicas"),
        ({"memory_available": 3 << 29}, "memory", State.WARNING, "replicas"),
        ({"disk_free": 1 << 20}, "disk", State.BAD, "space"),
        ({"open_files": 256}, "open files", State.WARNING, "ulimit"),
        ({"cpus": 1}, "processors", State.WARNING, "failovers"),
        ({"docker": "24"}, "docker", State.WARNING, "--local"),
        ({"leftovers": ("java (pid 7)",)}, "leftovers", State.BAD, "down"),
        ({"proxies": ("http_proxy",)}, "proxy", State.WARNING, "no_proxy"),
        ({"system": "Windows"}, "system", State.BAD, "WSL"),
    ],
)
def test_each_problem_has_advice(
    changes: dict[str, object], name: str, state: State, advice: str
) -> None:
    (finding,) = problems(**changes)
    assert (finding.name, finding.state) == (name, state)
    assert advice in finding.advice


def test_with_a_docker_engine_java_is_not_needed() -> None:
    docker = {"docker": "27", "engine": "27.3.1", "compose": "v2.29.7-desktop.1"}
    (finding,) = problems(java=None, **docker)
    assert finding.state is State.WARNING


def test_an_old_docker_or_compose_is_reported() -> None:
    docker = {"docker": "20", "engine": "19.03.15", "compose": "v2.5.0"}
    assert [finding.name for finding in problems(**docker)] == ["docker", "compose"]
    assert [finding.name for finding in problems(docker="27", engine="27.1")] == ["compose"]


def test_a_port_in_use_is_reported_with_its_program() -> None:
    ports = (PortInUse("kafka", 9092, "java, pid 7"), PortInUse("redis", 6379, None))
    kafka, redis = problems(ports=ports)
    assert (kafka.name, "java, pid 7" in kafka.found) == ("port 9092", True)
    assert "another user" in redis.found


def test_the_doctor_reports_the_same_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "postjournal.cli.commands.doctor.inspect_machine", lambda: replace(HEALTHY, java=None)
    )
    result = CliRunner().invoke(main, ["doctor", "--json"])
    assert result.exit_code == 1
    states = {found["name"]: found["state"] for found in msgspec.json.decode(result.stdout)}
    assert (states["java"], states["python"]) == ("bad", "good")
    assert "Java 17" in CliRunner().invoke(main, ["doctor"]).stdout


def test_the_doctor_inspects_this_machine_without_failing() -> None:
    result = CliRunner().invoke(main, ["doctor", "--json"])
    assert result.exit_code in (0, 1)
    assert {"python", "memory", "disk"} <= {
        found["name"] for found in msgspec.json.decode(result.stdout)
    }
