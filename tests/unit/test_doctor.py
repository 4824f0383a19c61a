"""What the doctor finds, and what it advises."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from click.testing import CliRunner

from postjournal.cli.doctor.diagnosis import Finding, State, diagnose
from postjournal.cli.doctor.facts import Facts, Taken
from postjournal.cli.main import main

HEALTHY = Facts()


def troubles(**changes: object) -> list[Finding]:
    facts = replace(HEALTHY, **changes)  # type: ignore[arg-type]
    return [finding for finding in diagnose(facts) if finding.state is not State.GOOD]


def test_a_healthy_machine_has_no_trouble_even_without_docker() -> None:
    assert troubles() == []
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
        ({"disk_free": 1 << 20}, "disk", State.BAD, "room"),
        ({"open_files": 256}, "open files", State.WARNING, "ulimit"),
        ({"cpus": 1}, "processors", State.WARNING, "failovers"),
        ({"docker": "24"}, "docker", State.WARNING, "--local"),
        ({"leftovers": ("java (pid 7)",)}, "leftovers", State.BAD, "down"),
        ({"proxies": ("http_proxy",)}, "proxy", State.WARNING, "no_proxy"),
        ({"system": "Windows"}, "system", State.BAD, "WSL"),
    ],
)
def test_each_trouble_is_named_with_what_to_do(
    changes: dict[str, object], name: str, state: State, advice: str
) -> None:
    (finding,) = troubles(**changes)
    assert (finding.name, finding.state) == (name, state)
    assert advice in finding.advice


def test_with_a_docker_engine_java_is_not_needed() -> None:
    docker = {"docker": "27", "engine": "27.3.1", "compose": "v2.29.7-desktop.1"}
    (finding,) = troubles(java=None, **docker)
    assert finding.state is State.WARNING


def test_an_old_docker_or_compose_is_found() -> None:
    docker = {"docker": "20", "engine": "19.03.15", "compose": "v2.5.0"}
    assert [finding.name for finding in troubles(**docker)] == ["docker", "compose"]
    assert [finding.name for finding in troubles(docker="27", engine="27.1")] == ["compose"]


def test_a_taken_port_is_told_with_who_has_it() -> None:
    ports = (Taken("kafka", 9092, "java, pid 7"), Taken("redis", 6379, None))
    kafka, redis = troubles(ports=ports)
    assert (kafka.name, "java, pid 7" in kafka.found) == ("port 9092", True)
    assert "another user" in redis.found


def test_the_doctor_tells_programs_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("postjournal.cli.doctor.look", lambda: replace(HEALTHY, java=None))
    result = CliRunner().invoke(main, ["doctor", "--json"])
    assert result.exit_code == 1
    told = {each["name"]: each["state"] for each in msgspec.json.decode(result.stdout)}
    assert (told["java"], told["python"]) == ("bad", "good")
    assert "Java 17" in CliRunner().invoke(main, ["doctor"]).stdout


def test_the_doctor_looks_at_this_machine_without_failing() -> None:
    result = CliRunner().invoke(main, ["doctor", "--json"])
    assert result.exit_code in (0, 1)
    assert {"python", "memory", "disk"} <= {e["name"] for e in msgspec.json.decode(result.stdout)}
