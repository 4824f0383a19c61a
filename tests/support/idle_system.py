"""A system of a bench or a chaos run that has no processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadtest.system import BenchSystem, started
from postjournal.cli.local.plan import Plan
from postjournal.cli.local.system import LocalSystem


class IdleSystem(LocalSystem):
    """A system without processes."""

    @property
    def plan(self) -> Plan:
        return Plan(
            token="t",
            directory="/",
            namespace="ledger",
            replicas=1,
            shards=1,
            ports={"kafka": 1, "redis": 2},
            socket="/s",
            environment={},
        )

    def stop(self) -> None:
        return


@contextmanager
def idle_system(directory: Path) -> Iterator[BenchSystem]:
    """It is idle: no process runs, and the directory exists."""
    deployment = IdleSystem(directory)
    with started(deployment, lambda _: deployment.layout.create()) as system:
        yield system
