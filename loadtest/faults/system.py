"""The system that chaos plays on: each replica reaches Kafka through a proxy of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec

from loadtest.bench_system import (
    Stage,
    scratch_directory,
    stage_of,
)
from loadtest.faults.proxy import Proxies
from postjournal.cli.local.kafka import ProxiedListener, broker_properties
from postjournal.cli.local.layout import Layout
from postjournal.cli.local.plan import Plan
from postjournal.cli.local.ports import choose_ports
from postjournal.cli.local.programs import SERVICES
from postjournal.cli.local.readiness import OnStep, ReadinessWaiter, service_checks, storage_checks
from postjournal.cli.local.system import SERVICES_TIMEOUT_S, LocalSystem

SNAPSHOTS = {
    # At the usual load one each ten seconds or so, that some fall into every kind of harm.
    "POSTJOURNAL_SNAPSHOT_EVERY_COMMANDS": "1000",
    # All of an hour stay, for the audit.
    "POSTJOURNAL_SNAPSHOT_KEEP": "400",
}

BACK_PATIENCE_S = 60.0


class ChaosSystem(LocalSystem):
    """All services, and a detour for each replica."""

    proxies: Proxies | None = None

    def start_behind_proxies(self, replicas: int, shards: int, on_step: OnStep) -> None:
        """Start everything; returns when it is ready."""
        with self._starting(replicas, shards, on_step) as waiting:
            plan = self.plan
            self.proxies = Proxies(
                {
                    name: (plan.ports[f"{name}/proxy"], plan.ports[f"{name}/kafka"])
                    for name in plan.replica_names
                }
            )
            supervisor = self._supervisor()
            supervisor.start_group(SERVICES)
            waiting.wait(service_checks(plan, supervisor.programs), SERVICES_TIMEOUT_S)

    def wait_until_back(self) -> None:
        """Everything answers; raises `OperationFailed` with the end of a log if one does not."""
        plan, programs = self.plan, self._supervisor().programs
        checks = storage_checks(plan) | service_checks(plan, programs)
        ReadinessWaiter(self.layout, programs).wait(checks, BACK_PATIENCE_S)

    def stop(self) -> None:
        """Everything, the proxies last."""
        super().stop()
        if self.proxies is not None:
            self.proxies.close()
            self.proxies = None

    def _make_plan(self, replicas: int, shards: int, on_step: OnStep) -> Plan:
        plan = super()._make_plan(replicas, shards, on_step)
        wanted = {f"{name}/{end}": 0 for name in plan.replica_names for end in ("kafka", "proxy")}
        # All ports at once, so that none is chosen twice.
        ports = choose_ports({**dict.fromkeys(plan.ports, 0), **wanted}, prefer_wanted=False)
        return msgspec.structs.replace(plan, ports=ports)

    def _write_configuration(self, plan: Plan, libraries: Path) -> None:
        super()._write_configuration(plan, libraries)
        detours = [
            ProxiedListener(f"DETOUR{n}", plan.ports[f"{name}/kafka"], plan.ports[f"{name}/proxy"])
            for n, name in enumerate(plan.replica_names)
        ]
        ports = plan.ports
        self.layout.kafka_configuration.write_text(
            broker_properties(
                self.layout.kafka_data, ports["kafka"], ports["kafka-controller"], detours
            )
        )


@contextmanager
def chaos_stage(replicas: int, shards: int, engine: Path | None) -> Iterator[Stage]:
    """A system of its own, stopped at the end.

    `engine`: a changed copy of `shared`, which the services use instead of this one.
    """
    directory = scratch_directory("chaos")
    # Its own store, whatever is configured here: a bucket is nothing to play with.
    own_store = {"POSTJOURNAL_SNAPSHOT_URL": Layout(directory).snapshots.as_uri()}
    environment = SNAPSHOTS | own_store
    if engine is not None:
        environment["PYTHONPATH"] = str(engine.resolve())
    system = ChaosSystem(directory, environment=environment)
    with stage_of(system, partial(system.start_behind_proxies, replicas, shards)) as stage:
        yield stage
