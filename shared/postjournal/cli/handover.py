"""Asking a leader to step down, and watching who follows."""

from __future__ import annotations

import time
from dataclasses import dataclass

from postjournal.adapters.kafka.control_log import ControlLog
from postjournal.cli.errors import NotFound, OperationFailed
from postjournal.cli.local.status import SystemStatus, leading
from postjournal.cli.running_system import System, kafka_access
from postjournal.cluster.status import Handover
from postjournal.cluster.topics import Topics
from postjournal.core.errors import JournalUnavailable

PATIENCE_S = 5.0


@dataclass(frozen=True)
class HandedOver:
    """`took_ms`: from the request's sending to the first sight of the new leader."""

    previous: str
    leader: str
    took_ms: float


def hand_over(system: System, shard: int, successor: str | None) -> HandedOver:
    """Hand the shard over to `successor`, or to whoever is first."""
    previous = check_handover(system.status(), shard, successor)
    request = Handover(shard=shard, successor=successor, time=time.time_ns() // 1_000_000)
    account, started = system.accounts(), time.monotonic()
    _send(system, request)
    while time.monotonic() < started + PATIENCE_S:
        leader = leading(account(), shard)
        if leader is not None and leader != previous:
            return HandedOver(previous, leader, (time.monotonic() - started) * 1000)
        time.sleep(0.005)
    raise OperationFailed(f"{previous} was asked, but still leads shard {shard}; see its log")


def check_handover(status: SystemStatus, shard: int, successor: str | None) -> str:
    """The present leader; raises `OperationFailed` when nobody (or not `successor`) can follow."""
    rows = [row for row in status.replicas if row.shard == shard]
    leader = status.leader(shard)
    if not rows:
        raise NotFound(f"there is no shard {shard}")
    if leader is None:
        raise OperationFailed(f"shard {shard} has no leader now: see `./postjournal status`")
    standbys = [row.name for row in rows if row.state == "standby"]
    if successor == leader:
        raise OperationFailed(f"{leader} leads shard {shard} already")
    if successor is not None and successor not in standbys:
        known = ", ".join(standbys) or "none"
        raise OperationFailed(f"{successor!r} is no standby of shard {shard}; standbys: {known}")
    if not standbys:
        raise OperationFailed(f"shard {shard} has no standby that could take over")
    return leader


def _send(system: System, request: Handover) -> None:
    """Append the request to the control topic."""
    plan = system.plan
    control = ControlLog(kafka_access(system), Topics.of(plan.namespace, (), ()).control)
    try:
        control.append(request)
    except JournalUnavailable as error:
        raise OperationFailed(f"the request cannot be sent: {error}") from error
    finally:
        control.close()
