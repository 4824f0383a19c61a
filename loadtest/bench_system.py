"""The system that a bench runs on: one of its own, or the one that is running."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from loadtest.progress import say
from postjournal.cli.docker.plan import DockerPlan
from postjournal.cli.errors import OperationFailed
from postjournal.cli.interruption import interruptible, uninterrupted
from postjournal.cli.local.plan import Plan
from postjournal.cli.local.programs import SERVICES
from postjournal.cli.local.readiness import OnProgress, service_checks
from postjournal.cli.local.status import ReplicaRow
from postjournal.cli.local.system import SERVICES_PATIENCE_S, LocalSystem
from postjournal.cli.progress import Reporter
from postjournal.cli.running_system import (
    System,
    kafka_access,
    running_system,
)
from postjournal.cluster.topics import Topics
from postjournal.config.settings import KafkaAccess

SETTLE_PATIENCE_S = 60.0
POLL_S = 0.25


class BenchSystem(LocalSystem):
    """Without gateway, consumers and view: they would take CPU from what is measured."""

    def start_replicas(
        self, replicas: int, shards: int, on_progress: OnProgress, *, wait: bool = True
    ) -> None:
        """Start Kafka, Redis and, if `wait`, the replicas; returns when they are ready."""
        with self._starting(replicas, shards, on_progress) as waiting:
            if not wait:
                return
            self.launch_replicas()
            supervisor = self._supervisor()
            checks = service_checks(self.plan, supervisor.programs)
            mine = {
                name: check
                for name, check in checks.items()
                if name in self.plan.replica_names or name.startswith("leader of")
            }
            waiting.wait(mine, SERVICES_PATIENCE_S)

    def launch_replicas(self) -> None:
        """Start the replicas, all at once; does not wait until they are ready."""
        supervisor = self._supervisor()
        for name in self.plan.replica_names:
            supervisor.start(SERVICES, name)


@dataclass
class Stage:
    """Where a bench plays. `keep`: the data shall stay, for examination."""

    system: System
    plan: Plan | DockerPlan
    own: bool
    keep: bool = False

    @property
    def local(self) -> LocalSystem:
        """The system, where only local processes will do."""
        assert isinstance(self.system, LocalSystem)
        return self.system

    @property
    def bootstrap(self) -> str:
        """Kafka's address."""
        return self.plan.address("kafka")

    @cached_property
    def kafka(self) -> KafkaAccess:
        """Kafka's address, and the operator's credentials."""
        return kafka_access(self.system)

    @property
    def topics(self) -> Topics:
        """The ledger's topics."""
        return Topics.of(self.plan.namespace, ("commands", "feed"), ("results", "balances"))

    def launch_replicas(self) -> None:
        """Start the replicas of an own system; does not wait until they are ready."""
        assert isinstance(self.system, BenchSystem)
        self.system.launch_replicas()

    def rows(self, shard: int) -> list[ReplicaRow]:
        """What the replicas say of a shard."""
        return [row for row in self.system.status().replicas if row.shard == shard]


@contextmanager
def stage_for(*, attach: bool, replicas: int, shards: int = 1) -> Iterator[Stage]:
    """The running system, or one of the bench's own, which is stopped at the end.

    Either way a bench that is told to end heals what it has harmed.
    """
    if attach:
        system = running_system()
        with interruptible():
            yield Stage(system, system.plan, own=False)
        return
    with own_stage(replicas, shards) as stage:
        yield stage


@contextmanager
def own_stage(replicas: int, shards: int = 1, *, launch: bool = True) -> Iterator[Stage]:
    """A system in a temporary directory, on free ports. `launch`: with the replicas running."""
    system = BenchSystem(scratch_directory("bench"))
    with stage_of(system, partial(system.start_replicas, replicas, shards, wait=launch)) as stage:
        yield stage


def scratch_directory(what: str) -> Path:
    """For a system that lasts no longer than a command."""
    return Path(tempfile.mkdtemp(prefix=f"postjournal-{what}-"))


@contextmanager
def stage_of(system: LocalSystem, start: Callable[[OnProgress], None]) -> Iterator[Stage]:
    """`start` starts the system; it is stopped at the end, and deleted unless `keep` is set.

    So it is when something is raised inside: who wants to examine that sets `keep` before.
    """
    stage: Stage | None = None
    with interruptible():
        try:
            with Reporter() as report:
                start(report)
            stage = Stage(system, system.plan, own=True)
            yield stage
        finally:
            with uninterrupted():
                system.stop()
            _clear_up(system.layout.directory, keep=stage is not None and stage.keep)


def _clear_up(directory: Path, *, keep: bool) -> None:
    if keep:
        say(f"kept for examination: {directory}; see `./postjournal verify --data`")
    else:
        shutil.rmtree(directory, ignore_errors=True)


def wait_until_settled(
    stage: Stage, shard: int = 0, *, slack: int = 1_000, same_seq: bool = False
) -> list[ReplicaRow]:
    """One leader, all others standby, in the same epoch and at most `slack` commands apart.

    Replicas tell their sequence once a second. `same_seq`: no command may be under way.
    Raises `OperationFailed` after a minute, saying how things stand.
    """
    deadline = time.monotonic() + SETTLE_PATIENCE_S
    while True:
        rows = stage.rows(shard)
        if is_settled(rows, 0 if same_seq else slack):
            return rows
        if time.monotonic() > deadline:
            stand = ", ".join(f"{row.name}: {row.state}, seq {row.seq}" for row in rows)
            raise OperationFailed(f"shard {shard} does not settle ({stand})")
        time.sleep(POLL_S)


def is_settled(rows: list[ReplicaRow], slack: int) -> bool:
    """See `wait_until_settled`."""
    states = [row.state for row in rows]
    if states.count("leader") != 1 or states.count("standby") != len(rows) - 1:
        return False
    seqs = [row.seq or 0 for row in rows]
    return len({row.epoch for row in rows}) == 1 and max(seqs) - min(seqs) <= slack


def leader_of(rows: list[ReplicaRow]) -> ReplicaRow:
    """Of a settled shard."""
    return next(row for row in rows if row.state == "leader")
