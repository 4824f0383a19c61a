"""The system that a bench measures: one of its own, or the one that is running."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from loadtest.progress import print_line
from loadtest.waiting import wait_for
from postjournal.cli.coordinator import CoordinatorClient
from postjournal.cli.display.startup import StartupDisplay
from postjournal.cli.docker.plan import DockerPlan
from postjournal.cli.interruption import interruptible, uninterrupted
from postjournal.cli.local.plan import Plan
from postjournal.cli.local.programs import SERVICES
from postjournal.cli.local.readiness import OnStep, service_checks
from postjournal.cli.local.status import ReplicaRow, SystemStatus
from postjournal.cli.local.system import SERVICES_TIMEOUT_S, LocalSystem
from postjournal.cli.running_system import System, coordinator_of, kafka_access, running_system
from postjournal.cluster.topics import Topics
from postjournal.config.settings import KafkaAccess

SETTLE_TIMEOUT_S = 60.0
SETTLE_POLL_S = 0.25
SEQ_SLACK = 1_000
"""Replicas publish their seq once a second, so under load they appear this many commands apart."""


class ReplicasOnlySystem(LocalSystem):
    """A local system without gateway, consumers and leader view.

    Those would take CPU from what is measured.
    """

    def start_replicas(
        self, replicas: int, shards: int, on_step: OnStep, *, wait: bool = True
    ) -> None:
        """Start Kafka, Redis and, if `wait`, the replicas; return when they are ready."""
        with self._starting(replicas, shards, on_step) as waiting:
            if not wait:
                return
            self.launch_replicas()
            supervisor = self._supervisor()
            checks = {
                name: check
                for name, check in service_checks(self.plan, supervisor.programs).items()
                if name in self.plan.replica_names or name.startswith("leader of")
            }
            waiting.wait(checks, SERVICES_TIMEOUT_S)

    def launch_replicas(self) -> None:
        """Start all replicas at once, without waiting until they are ready."""
        supervisor = self._supervisor()
        for name in self.plan.replica_names:
            supervisor.start(SERVICES, name)


@dataclass
class BenchSystem:
    """A running system and what a bench needs to know of it.

    `deployment`: its local processes or containers; `own`: it was started for this bench;
    `keep`: its data is not deleted at the end, so that it can be examined.
    """

    deployment: System
    plan: Plan | DockerPlan
    own: bool
    keep: bool = False

    @property
    def local(self) -> LocalSystem:
        """The deployment, where only local processes will do."""
        assert isinstance(self.deployment, LocalSystem)
        return self.deployment

    @cached_property
    def kafka(self) -> KafkaAccess:
        return kafka_access(self.deployment)

    def coordinator(self) -> CoordinatorClient:
        """A client of the coordinator, which need not be ready yet."""
        return coordinator_of(self.deployment)

    @property
    def topics(self) -> Topics:
        return Topics.of(self.plan.namespace, ("commands", "feed"), ("results", "balances"))

    @property
    def feed_topic(self) -> str:
        return self.topics.source_topics[1]

    @property
    def results_topic(self) -> str:
        return self.topics.sink_topics["results"]

    def launch_replicas(self) -> None:
        """Start the replicas of a system of its own, without waiting until they are ready."""
        assert isinstance(self.deployment, ReplicasOnlySystem)
        self.deployment.launch_replicas()

    def status(self) -> SystemStatus:
        return self.deployment.status()

    def rows(self, shard: int) -> list[ReplicaRow]:
        """What each replica reports of a shard."""
        return [row for row in self.status().replicas if row.shard == shard]


@contextmanager
def system_for(*, attach: bool, replicas: int, shards: int = 1) -> Iterator[BenchSystem]:
    """The running system if `attach`, or else one of the bench's own that is stopped at the end.

    Either way SIGTERM and SIGHUP unwind the bench, so that injected faults are healed.
    """
    if attach:
        deployment = running_system()
        with interruptible():
            yield BenchSystem(deployment, deployment.plan, own=False)
        return
    with own_system(replicas, shards) as system:
        yield system


@contextmanager
def own_system(replicas: int, shards: int = 1, *, launch: bool = True) -> Iterator[BenchSystem]:
    """A system in a temporary directory, on free ports. `launch`: with the replicas running."""
    deployment = ReplicasOnlySystem(temporary_directory("bench"))
    start = partial(deployment.start_replicas, replicas, shards, wait=launch)
    with started(deployment, start) as system:
        yield system


def temporary_directory(purpose: str) -> Path:
    """A directory for a system that exists only as long as one command."""
    return Path(tempfile.mkdtemp(prefix=f"postjournal-{purpose}-"))


@contextmanager
def started(deployment: LocalSystem, start: Callable[[OnStep], None]) -> Iterator[BenchSystem]:
    """Start a system with `start`, stop it at the end, delete its data unless `keep` is set.

    The data is deleted after an exception as well, unless `keep` was set before it.
    """
    system: BenchSystem | None = None
    with interruptible():
        try:
            with StartupDisplay() as report:
                start(report)
            system = BenchSystem(deployment, deployment.plan, own=True)
            yield system
        finally:
            with uninterrupted():
                deployment.stop()
            _clean_up(deployment.layout.directory, keep=system is not None and system.keep)


def _clean_up(directory: Path, *, keep: bool) -> None:
    if keep:
        print_line(f"kept {directory}: examine it with `./postjournal verify --data`")
    else:
        shutil.rmtree(directory, ignore_errors=True)


def wait_until_settled(
    system: BenchSystem,
    shard: int = 0,
    *,
    same_seq: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> list[ReplicaRow]:
    """Wait for one leader and standbys in the same epoch, at most `SEQ_SLACK` commands apart.

    `same_seq`: all have the same seq; no command may be under way. Returns the replicas' rows.
    Raises `OperationFailed` with the replicas' states after a minute.
    """
    rows: list[ReplicaRow] = []

    def settled() -> list[ReplicaRow]:
        rows[:] = system.rows(shard)
        return rows if is_settled(rows, 0 if same_seq else SEQ_SLACK) else []

    def failure() -> str:
        states = ", ".join(f"{row.name}: {row.state}, seq {row.seq}" for row in rows)
        return f"shard {shard} has no leader with all other replicas in sync ({states})"

    return wait_for(settled, failure, SETTLE_TIMEOUT_S, poll_s=SETTLE_POLL_S, sleep=sleep)


def is_settled(rows: list[ReplicaRow], slack: int) -> bool:
    """Whether one replica leads and the others are standbys at most `slack` commands apart."""
    states = [row.state for row in rows]
    if states.count("leader") != 1 or states.count("standby") != len(rows) - 1:
        return False
    seqs = [row.seq or 0 for row in rows]
    return len({row.epoch for row in rows}) == 1 and max(seqs) - min(seqs) <= slack


def leader_of(rows: list[ReplicaRow]) -> ReplicaRow:
    """The leader's row of a settled shard."""
    return next(row for row in rows if row.state == "leader")
