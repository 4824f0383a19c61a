"""Handover: request a leader to resign, and wait for its successor."""

from __future__ import annotations

import time
from dataclasses import dataclass

from postjournal.adapters.kafka.control_log import ControlLog
from postjournal.cli.errors import NotFound, OperationFailed
from postjournal.cli.local.status import SystemStatus, find_leader
from postjournal.cli.running_system import System, kafka_access
from postjournal.cluster.status import Handover
from postjournal.cluster.topics import Topics
from postjournal.core.errors import JournalUnavailable

TIMEOUT_S = 5.0


@dataclass(frozen=True)
class HandoverResult:
    """`took_ms`: from sending the request to the first observation of the new leader."""

    previous: str
    leader: str
    took_ms: float


def hand_over(system: System, shard: int, successor: str | None) -> HandoverResult:
    """Hand the shard over to `successor`, or to the first standby that claims it.

    Raises `OperationFailed` when the handover is impossible or takes longer than 5 s.
    """
    previous = check_handover(system.status(), shard, successor)
    request = Handover(shard=shard, successor=successor, time=time.time_ns() // 1_000_000)
    fetch_states, started = system.state_fetcher(), time.monotonic()
    _send(system, request)
    while time.monotonic() < started + TIMEOUT_S:
        leader = find_leader(fetch_states(), shard)
        if leader is not None and leader != previous:
            return HandoverResult(previous, leader, (time.monotonic() - started) * 1000)
        time.sleep(0.005)
    raise OperationFailed(
        f"{previous} still leads shard {shard} {TIMEOUT_S:.0f} s after the request; see its log"
    )


def check_handover(status: SystemStatus, shard: int, successor: str | None) -> str:
    """Return the current leader; raise `OperationFailed` when no standby can succeed it."""
    rows = [row for row in status.replicas if row.shard == shard]
    if not rows:
        raise NotFound(f"there is no shard {shard}")
    leader = status.require_leader(shard)
    standbys = [row.name for row in rows if row.state == "standby"]
    if successor == leader:
        raise OperationFailed(f"{leader} already leads shard {shard}")
    if successor is not None and successor not in standbys:
        known = ", ".join(standbys) or "none"
        raise OperationFailed(f"{successor!r} is not a standby of shard {shard}; standbys: {known}")
    if not standbys:
        raise OperationFailed(f"shard {shard} has no standby that could take over")
    return leader


def _send(system: System, request: Handover) -> None:
    plan = system.plan
    control = ControlLog(kafka_access(system), Topics.of(plan.namespace, (), ()).control)
    try:
        control.append(request)
    except JournalUnavailable as error:
        raise OperationFailed(f"cannot send the handover request: {error}") from error
    finally:
        control.close()
