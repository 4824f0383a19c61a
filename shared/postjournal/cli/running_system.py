"""The system that a command acts on."""

from __future__ import annotations

from postjournal.cli.docker import engine
from postjournal.cli.docker.system import DockerSystem
from postjournal.cli.local.system import LocalSystem

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
            docker.prove_identity()
            return docker
    system.prove_identity()
    return system
