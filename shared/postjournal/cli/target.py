"""The settings of the system that a command reads: the running one, or one that is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from postjournal.cli.display.startup import StartupDisplay
from postjournal.cli.interruption import interruptible, uninterrupted
from postjournal.cli.local.plan import Plan
from postjournal.cli.local.programs import service_environment
from postjournal.cli.local.system import LocalSystem
from postjournal.cli.running_system import running_system
from postjournal.config.settings import BOOTSTRAP
from postjournal.config.variables import process_environment


def target_environment(bootstrap: str | None) -> dict[str, str]:
    """Return the POSTJOURNAL_… variables of the system to read.

    They are this process's where `bootstrap` is given or POSTJOURNAL_BOOTSTRAP is set, otherwise
    those of the running system, credentials included. Raises `OperationFailed` when no system is
    running.
    """
    environment = process_environment()
    if bootstrap is not None or environment.get(BOOTSTRAP.name):
        return environment
    return process_environment(running_system().settings())


@contextmanager
def open_target_environment(bootstrap: str | None, data: Path | None) -> Iterator[dict[str, str]]:
    """Yield `target_environment`, or the variables of a Kafka that runs on `data` meanwhile.

    `data`: the directory of a stopped local system.
    """
    if data is None:
        yield target_environment(bootstrap)
        return
    with _storage_of(data) as plan:
        yield process_environment(service_environment(plan))


@contextmanager
def _storage_of(directory: Path) -> Iterator[Plan]:
    system = LocalSystem(directory)
    with interruptible():
        try:
            with StartupDisplay() as display:
                system.start_storage(display)
            yield system.plan
        finally:
            with uninterrupted():
                if system.is_owner:
                    system.stop()
