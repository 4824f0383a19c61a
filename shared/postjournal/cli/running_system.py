"""The system that a command acts on."""

from __future__ import annotations

from postjournal.cli.coordinator import CoordinatorClient
from postjournal.cli.docker import engine
from postjournal.cli.docker.system import DockerSystem
from postjournal.cli.local.system import LocalSystem
from postjournal.config.settings import KafkaAccess
from postjournal.config.variables import process_environment

System = LocalSystem | DockerSystem


def default_system() -> LocalSystem:
    """Return the local system of this checkout, running or not."""
    return LocalSystem(prefer_well_known_ports=True)


def running_system() -> System:
    """Return the running system: local processes if there are any, otherwise containers.

    Raises `OperationFailed` when no system is running.
    """
    system = default_system()
    if not system.has_processes() and engine.is_usable():
        docker = DockerSystem()
        if docker.is_running():
            _ = docker.credentials  # read now, so that no command fails halfway without them
            return docker
    _ = system.plan  # raises when nothing runs
    return system


def environment_for(system: System) -> dict[str, str]:
    """This process's variables with those by which a client reaches `system`."""
    return process_environment(system.settings())


def kafka_access(system: System) -> KafkaAccess:
    """How the operator reaches the Kafka of `system`. Raises `OperationFailed`."""
    return KafkaAccess.from_environment(environment_for(system))


def coordinator_of(system: System) -> CoordinatorClient:
    """A client of the coordinator of `system`, with its token. Raises `OperationFailed`."""
    return CoordinatorClient(system.plan.url("coordinator"), environment_for(system))
