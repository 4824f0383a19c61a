"""After the chaos: everything that must hold, checked from several sides."""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec
from redis import Redis, RedisError

from loadtest.bench.replicas_check import ReplicasCheck, check_replicas
from loadtest.bench.report import findings_faults
from loadtest.bench_system import Stage
from loadtest.chaos.clients import GatewayCounts
from loadtest.chaos.load import ChaosLoad
from loadtest.faults.system import ChaosSystem
from loadtest.progress import step
from loadtest.workload.audit import Findings
from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.programs import service_environment
from postjournal.config.settings import Settings, StoreSettings
from postjournal.verify.audit import Target, audit
from postjournal.verify.report import Report

PROJECTION_PATIENCE_S = 20.0


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """`kafka`, `gateway`: the results held against what either kind of client has sent;
    `away`: what is told of a service that did not come back, "" when all did;
    `replicas`: what they hold in memory, None when they did not settle; `journal`: what
    `./postjournal verify` says, snapshots included; `snapshots`: attempts at them that were done,
    and that failed; `projection`: the balances in Redis are those of the results;
    `faults`: all that is wrong, in words.
    """

    kafka: Findings
    gateway: Findings
    clients: GatewayCounts
    repeated: int
    snapshots: dict[str, int]
    away: str
    replicas: ReplicasCheck | None
    journal: Report
    projection: bool
    faults: list[str]

    @property
    def sound(self) -> bool:
        """Nothing is wrong."""
        return not self.faults


def judge(stage: Stage, load: ChaosLoad) -> Verdict:
    """The load has ended and nothing is harmed any more."""
    away = _away(stage)
    kafka, gateway = load.findings(), load.clients.auditor.findings()
    balances = load.balances_by_shard()
    replicas, unsettled = _replicas(stage, balances)
    # No consumer goes on past a gap.
    projection = not (kafka.gaps or gateway.gaps) and _projection(stage, balances)
    with step("verifying the journal"):
        journal = audit(_target(stage))
    faults = [
        *([away] if away else []),
        *unsettled,
        *findings_faults(kafka),
        *findings_faults(gateway),
    ]
    if replicas is not None and not replicas.ok:
        faults += [*replicas.differences, f"the replicas differ: {replicas.digests}"]
    if load.clients.counts.contradictions:
        faults.append(
            f"{load.clients.counts.contradictions} answers of the gateway are not what the "
            "results topic says"
        )
    if not projection:
        faults.append("the balances in Redis are not those of the results")
    for shard in journal.shards:
        faults += [f"{each.rule}: {each.place}: {each.text}" for each in shard.findings]
    return Verdict(
        kafka=kafka,
        gateway=gateway,
        clients=load.clients.counts,
        repeated=load.repeated,
        snapshots=dict(load.snapshots),
        away=away,
        replicas=replicas,
        journal=journal,
        projection=projection,
        faults=faults,
    )


def _away(stage: Stage) -> str:
    assert isinstance(stage.system, ChaosSystem)
    with step("waiting until every service is back"):
        try:
            stage.system.wait_until_back()
        except OperationFailed as error:
            return str(error)
    return ""


def _replicas(
    stage: Stage, balances: Mapping[int, Mapping[str, int]]
) -> tuple[ReplicasCheck | None, list[str]]:
    try:
        return check_replicas(stage, balances), []
    except OperationFailed as error:
        return None, [str(error)]


def _target(stage: Stage) -> Target:
    environment = service_environment(stage.local.plan)
    settings = Settings.from_environment(environment)
    return Target(
        kafka=stage.kafka,
        namespace=settings.namespace,
        application=settings.app,
        dedupe_window=settings.dedupe_window,
        store=StoreSettings.from_environment(environment),
    )


def _projection(stage: Stage, balances: Mapping[int, Mapping[str, int]]) -> bool:
    """Whether the projection gets there; Redis may have been killed a moment ago."""
    client = Redis.from_url(stage.local.plan.redis_url, socket_timeout=2, decode_responses=True)
    give_up_s = time.monotonic() + PROJECTION_PATIENCE_S
    with step("waiting for the balances in Redis"):
        while time.monotonic() < give_up_s:
            if _held(client, stage, balances):
                return True
            time.sleep(0.5)
    return False


def _held(client: Redis, stage: Stage, balances: Mapping[int, Mapping[str, int]]) -> bool:
    try:
        for shard, wanted in balances.items():
            held = client.hgetall(f"{stage.plan.namespace}:balances:{shard}")
            assert isinstance(held, dict)
            if held != {account: str(balance) for account, balance in wanted.items()}:
                return False
    except RedisError:
        return False
    return True
