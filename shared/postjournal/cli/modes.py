"""Which system a command is about."""

from __future__ import annotations

from postjournal.cli.local.system import LocalSystem


def default_system() -> LocalSystem:
    """The system of this checkout, running or not."""
    return LocalSystem(prefer_well_known_ports=True)


def running_system() -> LocalSystem:
    """The system of this checkout; raises `OperationFailed` unless it is running."""
    system = default_system()
    assert system.plan
    return system
