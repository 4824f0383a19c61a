"""Systems that have no processes, or single ones that stand for those of a replica."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

from loadtest.system import BenchSystem, started
from postjournal.cli.local.plan import Plan
from postjournal.cli.local.processes import TOKEN
from postjournal.cli.local.status import ReplicaRow, SystemStatus
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


class OneReplica(IdleSystem):
    """A replica that leads shard 1, of two shards. `replica`, `engine`: pids, 0: not running."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.replica, self.engine = 0, 0

    def status(self) -> SystemStatus:
        row = ReplicaRow(
            name="replica-1",
            pid=self.replica or None,
            engine_pid=self.engine or None,
            state="leader",
            shard=1,
            http="",
            tripwire="",
        )
        return SystemStatus(mode="local", replicas=[row], services={})


@contextmanager
def process_of(token: str) -> Iterator[Popen[str]]:
    """A running process that waits, of the system with this token."""
    environment = os.environ | {TOKEN: token}
    command = [sys.executable, "-c", "print('ready', flush=True); input()"]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()
