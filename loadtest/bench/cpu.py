"""CPU use by process: broker, replicas, this client, and everything else on the machine."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import psutil

from postjournal.cli.local.status import SystemStatus

CLIENT, OTHERS = "client", "others"
ENGINE_THREAD, LIBRDKAFKA = "engine thread", "librdkafka threads"
OTHER_THREADS = "other threads"
TICKS = os.sysconf("SC_CLK_TCK")


class Thread(NamedTuple):
    """CPU seconds used so far by one thread; `librdkafka`: it is one of that library's."""

    librdkafka: bool
    used_s: float


@dataclass(frozen=True)
class Reading:
    """CPU seconds used so far, by process name; the leader's `threads` by their ids."""

    at_s: float
    used_s: dict[str, float]
    threads: dict[str, Thread]


class Usage(msgspec.Struct, frozen=True):
    """`processes`: cores (CPU seconds per second) by process; `threads`: within the leader.

    `others`: processes outside the system, and the time taken by the hypervisor.
    """

    processes: dict[str, float]
    threads: dict[str, float]


class CpuMeter:
    """Reads the CPU time of a system's processes; a replica's is that of all its processes."""

    def __init__(self, status: SystemStatus, shard: int = 0) -> None:
        """The shard must have a leader, which is listed separately."""
        leader = status.leader(shard)
        rows = [row for row in status.replicas if row.shard == shard]
        pids = {"leader" if row.name == leader else f"standby {row.name}": row.pid for row in rows}
        engines = {row.name: row.engine_pid for row in rows}
        self._leader_pid = engines.get(leader or "") or 0
        pids["broker"] = status.services["kafka"].pid
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items() if pid}

    def read(self) -> Reading:
        """The CPU time used until now; 0 for a process that has exited."""
        used = {name: tree_cpu_time_s(process) for name, process in self._processes.items()}
        used[CLIENT] = cpu_time_s(psutil.Process())  # a bench's own system are its children
        used[OTHERS] = busy_s() - sum(used.values())
        return Reading(time.monotonic(), used, threads_of(self._leader_pid))


def busy_s() -> float:
    """CPU seconds that the whole machine has used so far, with those taken by the hypervisor."""
    whole = psutil.cpu_times()
    kinds = ("user", "system", "nice", "irq", "softirq", "steal")
    return sum(float(getattr(whole, kind, 0.0)) for kind in kinds)


def usage(before: Reading, after: Reading) -> Usage:
    """Cores used between two readings."""
    return _spent(before, after, after.at_s - before.at_s)


def micros_per_command(before: Reading, after: Reading, commands: int) -> Usage:
    """CPU microseconds per command, instead of cores."""
    return _spent(before, after, commands / 1e6)


def _spent(before: Reading, after: Reading, divisor: float) -> Usage:
    used = {
        name: _rounded(used_s - before.used_s.get(name, 0.0), divisor)
        for name, used_s in after.used_s.items()
    }
    return Usage(used, _by_kind(before.threads, after.threads, divisor))


def _by_kind(
    before: dict[str, Thread], after: dict[str, Thread], divisor: float
) -> dict[str, float]:
    """The engine's thread is the busiest of those that are not librdkafka's."""
    if not after:
        return {}
    kinds: tuple[list[float], list[float]] = ([0.0], [0.0])
    for thread_id, thread in after.items():
        earlier_s = before[thread_id].used_s if thread_id in before else 0.0
        kinds[thread.librdkafka].append(thread.used_s - earlier_s)
    python, librdkafka = kinds
    engine_s = max(python)
    return {
        ENGINE_THREAD: _rounded(engine_s, divisor),
        LIBRDKAFKA: _rounded(sum(librdkafka), divisor),
        OTHER_THREADS: _rounded(sum(python) - engine_s, divisor),
    }


def _rounded(used_s: float, divisor: float) -> float:
    return round(max(used_s, 0.0) / divisor, 3)


def threads_of(pid: int) -> dict[str, Thread]:
    """A process's threads by id; empty on platforms without /proc."""
    found = {}
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):  # the thread has ended
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
            fields = rest.split()
            used_s = (int(fields[11]) + int(fields[12])) / TICKS
            found[stat.parent.name] = Thread(name.startswith("rdk:"), used_s)
    return found


def tree_cpu_time_s(process: psutil.Process) -> float:
    """CPU seconds of a process and its children that still run."""
    try:
        children = process.children(recursive=True)
    except psutil.Error:
        children = []
    return sum(map(cpu_time_s, (process, *children)))


def cpu_time_s(process: psutil.Process) -> float:
    """CPU seconds that a process has used so far; 0 if it has exited."""
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)
