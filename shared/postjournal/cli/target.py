"""Which Kafka a command reads: the running system's, or one that is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from postjournal.cli.interruption import interruptible, uninterrupted
from postjournal.cli.local.plan import Plan
from postjournal.cli.local.programs import service_environment
from postjournal.cli.local.system import LocalSystem
from postjournal.cli.progress import Reporter
from postjournal.cli.running_system import running_system
from postjournal.config.settings import BOOTSTRAP
from postjournal.config.variables import process_environment


def environment_of(bootstrap: str | None) -> dict[str, str]:
    """The POSTJOURNAL_… variables of the system that is meant.

    Those of this process where `bootstrap` is named or POSTJOURNAL_BOOTSTRAP is set, else those
    of the running system, credentials included. Raises `OperationFailed` when none is running.
    """
    environment = process_environment()
    if bootstrap is not None or environment.get(BOOTSTRAP.name):
        return environment
    return process_environment(running_system().settings())


@contextmanager
def environment_with(bootstrap: str | None, data: Path | None) -> Iterator[dict[str, str]]:
    """As `environment_of`; with `data`, a kept data directory, of its Kafka, which runs inside."""
    if data is None:
        yield environment_of(bootstrap)
        return
    with _kept_system(data) as plan:
        yield process_environment(service_environment(plan))


@contextmanager
def _kept_system(directory: Path) -> Iterator[Plan]:
    system = LocalSystem(directory)
    with interruptible():
        try:
            with Reporter() as report:
                system.start_storage(report)
            yield system.plan
        finally:
            with uninterrupted():
                if system.is_own:
                    system.stop()
