"""A local system of its own in which each replica reaches Kafka through a proxy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec

from loadtest.faults.proxy import Proxies
from loadtest.system import BenchSystem, started, temporary_directory
from postjournal.cli.local.kafka import ProxiedListener, broker_properties
from postjournal.cli.local.layout import Layout
from postjournal.cli.local.plan import Plan
from postjournal.cli.local.ports import choose_ports
from postjournal.cli.local.programs import SERVICES
from postjournal.cli.local.readiness import OnStep, ReadinessWaiter, service_checks, storage_checks
from postjournal.cli.local.system import SERVICES_TIMEOUT_S, LocalSystem

SNAPSHOTS = {
    # At the usual load one of each of two shards about every ten seconds, so that every kind of
    # fault meets some.
    "POSTJOURNAL_SNAPSHOT_EVERY_COMMANDS": "500",
    # All of an hour are retained, for the audit.
    "POSTJOURNAL_SNAPSHOT_KEEP": "400",
}

RECOVERY_TIMEOUT_S = 60.0


class ProxiedSystem(LocalSystem):
    """All services. `proxies`: None while the system is not running."""

    proxies: Proxies | None = None

    def start_behind_proxies(self, replicas: int, shards: int, on_step: OnStep) -> None:
        """Start everything; return when it is ready."""
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

    def wait_until_ready(self) -> None:
        """Wait for every service; raises `OperationFailed` with the end of one's log."""
        plan, programs = self.plan, self._supervisor().programs
        checks = storage_checks(plan) | service_checks(plan, programs)
        ReadinessWaiter(self.layout, programs).wait(checks, RECOVERY_TIMEOUT_S)

    def stop(self) -> None:
        """Stop everything, the proxies last."""
        super().stop()
        if self.proxies is not None:
            self.proxies.close()
            self.proxies = None

    def _make_plan(self, replicas: int, shards: int, on_step: OnStep) -> Plan:
        plan = super()._make_plan(replicas, shards, on_step)
        added = {f"{name}/{end}": 0 for name in plan.replica_names for end in ("kafka", "proxy")}
        # All ports at once, so that none is chosen twice.
        ports = choose_ports({**dict.fromkeys(plan.ports, 0), **added}, prefer_wanted=False)
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
def proxied_system(replicas: int, shards: int, engine: Path | None) -> Iterator[BenchSystem]:
    """A system in a temporary directory, stopped at the end.

    `engine`: a changed copy of `shared`, which the services use instead of this one.
    """
    directory = temporary_directory("chaos")
    # Its own snapshot store, even if this environment configures another one.
    own_store = {"POSTJOURNAL_SNAPSHOT_URL": Layout(directory).snapshots.as_uri()}
    environment = SNAPSHOTS | own_store
    if engine is not None:
        environment["PYTHONPATH"] = str(engine.resolve())
    deployment = ProxiedSystem(directory, environment=environment)
    start = partial(deployment.start_behind_proxies, replicas, shards)
    with started(deployment, start) as system:
        yield system
