"""The faults that can be injected, and the kinds of them that a chaos run draws from."""

from __future__ import annotations

from enum import StrEnum

import msgspec

KAFKA, REDIS, GATEWAY, COORDINATOR = "kafka", "redis", "producer", "coordinator"
STORE = "snapshot store"


class Fault(StrEnum):
    """A fault that `FaultInjector` can inject into a process or its connections."""

    KILL = "kill"
    PAUSE = "pause"
    RESTART = "restart"
    DISCONNECT = "disconnect"
    CUT = "cut"
    HANG = "hang"
    DELAY = "delay"
    HANDOVER = "handover"
    DISK_FULL = "disk-full"


class FaultKind(msgspec.Struct, frozen=True):
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


FULL_DISK = "no running replica can write more than 4 kB; snapshots are requested"
KINDS = (
    FaultKind("kill", Fault.KILL, 4, "SIGKILL"),
    FaultKind("pause", Fault.PAUSE, 4, "SIGSTOP, later SIGCONT", None, (0.2, 4)),
    FaultKind("cut", Fault.CUT, 3, "connections to Kafka reset and refused", None, (0.2, 5)),
    FaultKind("hang", Fault.HANG, 3, "connections to Kafka carry nothing", None, (0.2, 5)),
    FaultKind(
        "delay", Fault.DELAY, 2, "all data from and to Kafka is late", None, (3, 8), (5, 120)
    ),
    FaultKind("handover", Fault.HANDOVER, 2, "the leader is requested to resign"),
    FaultKind("broker-restart", Fault.RESTART, 1, "SIGTERM, started again", KAFKA),
    FaultKind("broker-kill", Fault.KILL, 1, "SIGKILL", KAFKA),
    FaultKind("broker-pause", Fault.PAUSE, 1, "SIGSTOP", KAFKA, (0.5, 4)),
    FaultKind("redis-kill", Fault.KILL, 1, "SIGKILL; all its data is lost", REDIS),
    FaultKind("redis-pause", Fault.PAUSE, 1, "SIGSTOP", REDIS, (1, 6)),
    FaultKind("gateway-kill", Fault.KILL, 1, "SIGKILL", GATEWAY),
    FaultKind("coordinator-kill", Fault.KILL, 1, "SIGKILL", COORDINATOR),
    FaultKind("disk-full", Fault.DISK_FULL, 1.5, FULL_DISK, STORE, (4, 15)),
)
