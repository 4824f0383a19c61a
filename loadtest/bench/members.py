"""The processes of a system's replicas, each by itself."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from enum import StrEnum

import msgspec
import psutil

from loadtest.bench.cpu import CLIENT, OTHERS, Reading, busy_s, cpu_time_s
from loadtest.system import BenchSystem
from loadtest.waiting import wait_for
from postjournal.cli.local.status import ReplicaRow
from postjournal.cli.local.supervisor import Supervisor

START_TIMEOUT_S = 60.0
POLL_S = 0.02


class Kind(StrEnum):
    """What a process does."""

    PARENT = "parent"
    HTTP = "HTTP"
    ENGINE = "engine"
    BROKER = "broker"
    CLIENT = "client"
    OTHERS = "others"


MODULES = {"services.replica.http_process": Kind.HTTP, "services.replica.engine": Kind.ENGINE}
"""The arguments of `python -m` in a replica's children. An engine's shard is its second to last."""


class Member(msgspec.Struct, frozen=True):
    """One process. `name`: unique; `shard`: of an engine."""

    name: str
    kind: Kind
    shard: int | None = None


Processes = dict[Member, psutil.Process]


def wait_for_members(system: BenchSystem) -> Processes:
    """The processes of all replicas, as soon as all have been started.

    That is long before an engine decides anything: at first it loads its modules.
    """
    supervisor, plan = Supervisor(system.local.plan.socket), system.plan
    wanted = len(plan.replica_names) * (2 + plan.shards)

    def find() -> Processes | None:
        programs = supervisor.programs()
        found = {
            member: process
            for name in plan.replica_names
            for member, process in _members_of(name, programs[name].pid).items()
        }
        return found if len(found) == wanted else None

    return wait_for(
        find, lambda: "not all processes of the replicas run", START_TIMEOUT_S, poll_s=POLL_S
    )


def _members_of(name: str, pid: int | None) -> Processes:
    found: Processes = {}
    if pid is None:
        return found
    with suppress(psutil.Error):
        parent = psutil.Process(pid)
        found[Member(f"{name} parent", Kind.PARENT)] = parent
        for child in parent.children():
            member = member_of(name, child.cmdline())
            if member is not None:
                found[member] = child
    return found


def member_of(replica: str, arguments: list[str]) -> Member | None:
    """By its command line; None before a new process has one of its own."""
    kind = next((kind for module, kind in MODULES.items() if module in arguments), None)
    if kind is Kind.ENGINE:
        shard = int(arguments[-2])
        return Member(f"{replica} shard {shard}", kind, shard)
    return Member(f"{replica} {kind}", kind) if kind else None


def broker_and_client(system: BenchSystem) -> Processes:
    """The broker, and this process."""
    found = {Member(CLIENT, Kind.CLIENT): psutil.Process()}
    pid = Supervisor(system.local.plan.socket).programs()["kafka"].pid
    if pid is not None:
        found[Member("broker", Kind.BROKER)] = psutil.Process(pid)
    return found


def read_cpu(processes: Processes) -> Reading:
    """The CPU time used so far, of each process alone, without its children; and of all others."""
    used = {member.name: cpu_time_s(process) for member, process in processes.items()}
    used[OTHERS] = busy_s() - sum(used.values())
    return Reading(time.monotonic(), used, {})


def replaced(processes: Processes, rows: Iterable[ReplicaRow]) -> list[str]:
    """The engines that no longer run, and how they ended, by what the replicas report now."""
    pids = {member.name: process.pid for member, process in processes.items()}
    return [
        f"{row.name}: the engine of shard {row.shard} was restarted: {row.last_end}"
        for row in rows
        if row.engine_pid != pids[f"{row.name} shard {row.shard}"]
    ]
