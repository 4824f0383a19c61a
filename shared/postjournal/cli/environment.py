"""Which system a command that only reads is about, told by its services' variables."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from postjournal.cli.local.plan import Plan
from postjournal.cli.local.programs import service_environment
from postjournal.cli.local.system import LocalSystem
from postjournal.cli.modes import running_system
from postjournal.cli.progress import Reporter


@contextmanager
def environment_of(bootstrap: str | None, data: Path | None) -> Iterator[dict[str, str]]:
    """The variables of the system that is meant; `data`'s Kafka runs inside."""
    if data is not None:
        with _kept_system(data) as plan:
            yield {**os.environ, **service_environment(plan)}
    elif bootstrap is not None or "POSTJOURNAL_BOOTSTRAP" in os.environ:
        yield dict(os.environ)
    else:
        yield {**os.environ, **service_environment(running_system().plan)}


@contextmanager
def _kept_system(directory: Path) -> Iterator[Plan]:
    system = LocalSystem(directory)
    with Reporter() as report:
        system.start_storage(report)
    try:
        yield system.plan
    finally:
        system.stop()
