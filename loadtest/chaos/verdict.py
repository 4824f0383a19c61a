"""The checks after a chaos run."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from redis import Redis, RedisError

from loadtest.chaos.gateway_clients import GatewayCounts
from loadtest.chaos.load import ChaosLoad
from loadtest.faults.proxied_system import ProxiedSystem
from loadtest.progress import step
from loadtest.system import BenchSystem
from loadtest.waiting import wait_for
from loadtest.workload.audit import Findings
from loadtest.workload.replicas_check import ReplicasCheck, check_replicas
from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.programs import service_environment
from postjournal.config.settings import Settings, StoreSettings
from postjournal.verify.audit import Target, audit
from postjournal.verify.report import Report

PROJECTION_TIMEOUT_S = 20.0


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """`kafka`, `gateway`: the results compared with the commands of either kind of client;
    `not_ready`: why a service is not ready again, None when all are;
    `replicas`: what they hold in memory, None when they did not settle; `journal`: the report of
    `./postjournal verify`, snapshots included; `snapshots`: attempts at them that were done,
    and that failed; `projection`: the balances in Redis are those of the results;
    `faults`: descriptions of the checks that failed.
    """

    kafka: Findings
    gateway: Findings
    clients: GatewayCounts
    repeated: int
    snapshots: dict[str, int]
    not_ready: str | None
    replicas: ReplicasCheck | None
    journal: Report
    projection: bool
    faults: list[str]

    @property
    def sound(self) -> bool:
        return not self.faults


def judge(system: BenchSystem, load: ChaosLoad) -> Verdict:
    """Check everything; the load has ended and all faults are healed."""
    not_ready = _not_ready(system)
    kafka, gateway = load.findings(), load.clients.auditor.findings()
    balances = load.balances_by_shard()
    replicas, unsettled = _replicas(system, balances)
    # No consumer processes results beyond a gap.
    projection = not (kafka.gaps or gateway.gaps) and _is_projected(system, balances)
    with step("verifying the journal"):
        journal = audit(_target(system))
    faults = [*([not_ready] if not_ready else []), *unsettled]
    faults += kafka.failures() + gateway.failures()
    if replicas is not None:
        faults += replicas.failures()
    if load.clients.counts.contradictions:
        faults.append(
            f"{load.clients.counts.contradictions} answers of the gateway differ from the results "
            "topic"
        )
    if not projection:
        faults.append("the balances in Redis are not those of the results")
    for shard in journal.shards:
        faults += [f"{found.rule}: {found.location}: {found.text}" for found in shard.findings]
    return Verdict(
        kafka=kafka,
        gateway=gateway,
        clients=load.clients.counts,
        repeated=load.repeated,
        snapshots=dict(load.snapshots),
        not_ready=not_ready,
        replicas=replicas,
        journal=journal,
        projection=projection,
        faults=faults,
    )


def _not_ready(system: BenchSystem) -> str | None:
    assert isinstance(system.deployment, ProxiedSystem)
    with step("waiting until every service is ready again"):
        try:
            system.deployment.wait_until_ready()
        except OperationFailed as error:
            return str(error)
    return None


def _replicas(
    system: BenchSystem, balances: Mapping[int, Mapping[str, int]]
) -> tuple[ReplicasCheck | None, list[str]]:
    try:
        return check_replicas(system, balances), []
    except OperationFailed as error:
        return None, [str(error)]


def _target(system: BenchSystem) -> Target:
    environment = service_environment(system.local.plan)
    settings = Settings.from_environment(environment)
    return Target(
        kafka=system.kafka,
        namespace=settings.namespace,
        application=settings.app,
        dedupe_window=settings.dedupe_window,
        store=StoreSettings.from_environment(environment),
    )


def _is_projected(system: BenchSystem, balances: Mapping[int, Mapping[str, int]]) -> bool:
    """Whether Redis has the balances in time; it may have lost its data a moment ago."""
    client = Redis.from_url(system.local.plan.redis_url, socket_timeout=2, decode_responses=True)
    with step("waiting for the balances in Redis"):
        try:
            return wait_for(
                lambda: _holds(client, system.plan.namespace, balances),
                lambda: "the balances in Redis differ",
                PROJECTION_TIMEOUT_S,
                poll_s=0.5,
            )
        except OperationFailed:
            return False


def _holds(client: Redis, namespace: str, balances: Mapping[int, Mapping[str, int]]) -> bool:
    try:
        for shard, expected in balances.items():
            held = client.hgetall(f"{namespace}:balances:{shard}")
            assert isinstance(held, dict)
            if held != {account: str(balance) for account, balance in expected.items()}:
                return False
    except RedisError:
        return False
    return True
