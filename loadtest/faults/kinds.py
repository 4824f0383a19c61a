"""The faults that can be injected, and the kinds of them that a chaos run draws from."""

from __future__ import annotations

from enum import StrEnum

import msgspec

KAFKA, REDIS, GATEWAY, COORDINATOR = "kafka", "redis", "producer", "coordinator"
STORE = "snapshot store"


class Fault(StrEnum):
    """What `FaultInjector` can do."""

    KILL = "kill"
    PAUSE = "pause"
    RESTART = "restart"
    DISCONNECT = "disconnect"
    CUT = "cut"
    HANG = "hang"
    DELAY = "delay"
    HANDOVER = "handover"
    DISK_FULL = "disk-full"


class FaultKind(msgspec.Struct, frozen=True, kw_only=True):
    """`weight`: how often it is drawn, relative to others; `lasts_s`: from, to.

    `target`: a service, or None for a replica; `delay_ms`: from, to, each way.
    """

    name: str
    fault: Fault
    weight: float
    description: str
    target: str | None = None
    lasts_s: tuple[float, float] = (0.0, 0.0)
    delay_ms: tuple[int, int] = (0, 0)


KINDS = (
    FaultKind(name="kill", fault=Fault.KILL, weight=4, description="SIGKILL"),
    FaultKind(
        name="pause",
        fault=Fault.PAUSE,
        weight=4,
        description="SIGSTOP, later SIGCONT",
        lasts_s=(0.2, 4),
    ),
    FaultKind(
        name="cut",
        fault=Fault.CUT,
        weight=3,
        description="connections to Kafka reset and refused",
        lasts_s=(0.2, 5),
    ),
    FaultKind(
        name="hang",
        fault=Fault.HANG,
        weight=3,
        description="connections to Kafka carry nothing",
        lasts_s=(0.2, 5),
    ),
    FaultKind(
        name="delay",
        fault=Fault.DELAY,
        weight=2,
        description="everything to and from Kafka is late",
        lasts_s=(3, 8),
        delay_ms=(5, 120),
    ),
    FaultKind(
        name="handover",
        fault=Fault.HANDOVER,
        weight=2,
        description="the leader is requested to resign",
    ),
    FaultKind(
        name="broker-restart",
        fault=Fault.RESTART,
        weight=1,
        description="SIGTERM, started again",
        target=KAFKA,
    ),
    FaultKind(name="broker-kill", fault=Fault.KILL, weight=1, description="SIGKILL", target=KAFKA),
    FaultKind(
        name="broker-pause",
        fault=Fault.PAUSE,
        weight=1,
        description="SIGSTOP",
        target=KAFKA,
        lasts_s=(0.5, 4),
    ),
    FaultKind(
        name="redis-kill",
        fault=Fault.KILL,
        weight=1,
        description="SIGKILL; all its data is lost",
        target=REDIS,
    ),
    FaultKind(
        name="redis-pause",
        fault=Fault.PAUSE,
        weight=1,
        description="SIGSTOP",
        target=REDIS,
        lasts_s=(1, 6),
    ),
    FaultKind(
        name="gateway-kill", fault=Fault.KILL, weight=1, description="SIGKILL", target=GATEWAY
    ),
    FaultKind(
        name="coordinator-kill",
        fault=Fault.KILL,
        weight=1,
        description="SIGKILL",
        target=COORDINATOR,
    ),
    FaultKind(
        name="disk-full",
        fault=Fault.DISK_FULL,
        weight=1.5,
        description="no running replica can write more than 4 kB; snapshots are requested",
        target=STORE,
        lasts_s=(4, 15),
    ),
)
