"""A real Docker engine, its images, and the deployment in a project of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from postjournal.cli.docker import engine
from postjournal.cli.docker.containers import Container, containers, read_file
from postjournal.cli.docker.system import DockerSystem
from postjournal.cli.local.layout import PROJECT_ROOT
from postjournal.cli.local.ports import choose_ports
from postjournal.cli.local.status import SystemStatus

OFFLINE = "POSTJOURNAL_DOCKER_OFFLINE"
"""A folder with engine.sh and images.sh, for machines without an engine or a registry."""

IMAGES = ("PYTHON_IMAGE", "KAFKA_IMAGE", "REDIS_IMAGE", "MINIO_IMAGE")
LEFT_OUT = ("grafana", "kafka-ui", "prometheus")
"""Not started: they have no offline image, or other tests cover them (test_dashboards)."""

SETTLE_S = 60.0

PORTS = {
    "PRODUCER_PORT": 8080,
    "COORDINATOR_PORT": 8085,
    "KAFKA_PORT": 9092,
    "KAFKA_2_PORT": 9094,
    "KAFKA_3_PORT": 9095,
    "PROMETHEUS_PORT": 9090,
}


@contextmanager
def docker_engine() -> Iterator[None]:
    """An engine that has all images; one that was started here is stopped at the end.

    Skips with the reason where there is no engine.
    """
    tools = _offline_tools()
    started_here = False
    if not engine.is_usable():
        if tools is None:
            pytest.skip(
                f"no Docker engine answers, and {OFFLINE} is not set to a folder that can start one"
            )
        started_here = _run_tool(tools / "engine.sh")
    try:
        _provide_images(tools)
        yield
    finally:
        if started_here:
            _run_tool(tools / "engine.sh", "stop")  # type: ignore[operator]
        if tools is not None:
            shutil.rmtree(tools)


def _offline_tools() -> Path | None:
    """A writable copy: files copied into an image keep their permissions."""
    folder = Path(os.environ.get(OFFLINE, "")).resolve()
    if not os.environ.get(OFFLINE) or not (folder / "engine.sh").exists() or os.geteuid() != 0:
        return None
    copy = Path(tempfile.mkdtemp(prefix="docker-offline-")) / "tools"
    shutil.copytree(folder, copy)
    for path in copy.rglob("*"):
        path.chmod(path.stat().st_mode | 0o200)
    return copy


def _run_tool(*command: str | Path) -> bool:
    done = subprocess.run([str(part) for part in command], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return True


def _provide_images(tools: Path | None) -> None:
    wanted = [pinned()[name] for name in IMAGES]
    missing = [image for image in wanted if not _exists(image) and not _pulled(image)]
    if missing and tools is None:
        pytest.skip(f"{missing[0]} is neither present nor can it be pulled")
    if missing:
        assert tools is not None
        _run_tool(tools / "images.sh", *missing)
    kafka = pinned()["KAFKA_IMAGE"]
    if tools is not None and not _can_write_its_configuration(kafka):
        _run_tool(tools / "images.sh", "--force", kafka)


def _exists(image: str) -> bool:
    return _docker("image", "inspect", image)


def _pulled(image: str) -> bool:
    return _docker("pull", "--quiet", image)


def _can_write_its_configuration(image: str) -> bool:
    test = ("run", "--rm", "--entrypoint", "test", image, "-w", "/opt/kafka/config/log4j2.yaml")
    return _docker(*test)


def _docker(*arguments: str) -> bool:
    done = subprocess.run(["docker", *arguments], capture_output=True, check=False)
    return done.returncode == 0


def pinned() -> dict[str, str]:
    """The variables of .env."""
    lines = (PROJECT_ROOT / ".env").read_text().splitlines()
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


@contextmanager
def deployment(
    files: tuple[str, ...] = ("compose.yaml",), replicas: int = 3
) -> Iterator[DockerSystem]:
    """The deployment, healthy, with its own project name and ports; removed at the end."""
    ports = {name: str(port) for name, port in choose_ports(PORTS, prefer_wanted=False).items()}
    settings = ports | {
        "COMPOSE_PROJECT_NAME": f"postjournal-{uuid.uuid4().hex[:6]}",
        "COMPOSE_FILE": ":".join(files),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        for name in ("POSTJOURNAL_KAFKA_USERNAME", "POSTJOURNAL_KAFKA_PASSWORD"):
            patch.setenv(name, "")
        patch.setenv("POSTJOURNAL_API_TOKEN", "")
        try:
            engine.up(replicas, 1, engine.services(LEFT_OUT))
            yield DockerSystem()
        finally:
            engine.down(wipe=True)


def container_of(service: str) -> Container:
    return next(container for container in containers() if container.service == service)


def logs_of(container: Container) -> str:
    done = subprocess.run(["docker", "logs", container.name], capture_output=True, check=True)
    return (done.stdout + done.stderr).decode(errors="replace")


def secret(service: str, name: str) -> str:
    """A file of the service's own volume."""
    return read_file(container_of("secrets").name, f"/secrets/{service}/{name}")


def wait_for(system: DockerSystem, condition: Callable[[SystemStatus], bool]) -> SystemStatus:
    deadline = time.monotonic() + SETTLE_S
    while not condition(status := system.status()):
        assert time.monotonic() < deadline, status
        time.sleep(0.1)
    return status


def is_complete(status: SystemStatus) -> bool:
    """One leader, and all others are standbys."""
    states = sorted(row.state for row in status.replicas)
    return states == ["leader", *["standby"] * (len(states) - 1)]


def all_agree(status: SystemStatus) -> bool:
    """Complete, and all replicas have the same position and history."""
    positions = {(row.seq, row.digest, row.epoch, row.leader) for row in status.replicas}
    return len(positions) == 1 and is_complete(status)


def leader_of(system: DockerSystem) -> str:
    leader = wait_for(system, lambda status: status.leader() is not None).leader()
    assert leader is not None
    return leader


def took_over_from(previous: str) -> Callable[[SystemStatus], bool]:
    return lambda status: status.leader() not in (None, previous)
