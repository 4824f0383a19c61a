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
    PARENT_KILL = "parent-kill"
    HTTP_KILL = "http-kill"
    ENGINE_KILL = "engine-kill"
    ENGINE_ABORT = "engine-abort"
    ENGINE_PAUSE = "engine-pause"


AT_LEADER = frozenset(
    (
        *(Fault.HANDOVER, Fault.PARENT_KILL, Fault.HTTP_KILL),
        *(Fault.ENGINE_KILL, Fault.ENGINE_ABORT, Fault.ENGINE_PAUSE),
    )
)
"""Faults that are always aimed at the leader of a shard."""


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
    FaultKind("parent-kill", Fault.PARENT_KILL, 2, "SIGKILL to a replica's main process alone"),
    FaultKind("http-kill", Fault.HTTP_KILL, 1, "SIGKILL to a replica's HTTP process"),
    FaultKind("engine-kill", Fault.ENGINE_KILL, 3, "SIGKILL to the engine of one shard"),
    FaultKind("engine-abort", Fault.ENGINE_ABORT, 2, "SIGSEGV, as of a crash in a C library"),
    # The longest ones exceed the time after which a replica ends an engine that is stuck.
    FaultKind("engine-pause", Fault.ENGINE_PAUSE, 3, "SIGSTOP, later SIGCONT", None, (0.2, 13)),
    FaultKind("broker-restart", Fault.RESTART, 1, "SIGTERM, started again", KAFKA),
    FaultKind("broker-kill", Fault.KILL, 1, "SIGKILL", KAFKA),
    FaultKind("broker-pause", Fault.PAUSE, 1, "SIGSTOP", KAFKA, (0.5, 4)),
    FaultKind("redis-kill", Fault.KILL, 1, "SIGKILL; all its data is lost", REDIS),
    FaultKind("redis-pause", Fault.PAUSE, 1, "SIGSTOP", REDIS, (1, 6)),
    FaultKind("gateway-kill", Fault.KILL, 1, "SIGKILL", GATEWAY),
    FaultKind("coordinator-kill", Fault.KILL, 1, "SIGKILL", COORDINATOR),
    FaultKind("disk-full", Fault.DISK_FULL, 1.5, FULL_DISK, STORE, (4, 15)),
)
