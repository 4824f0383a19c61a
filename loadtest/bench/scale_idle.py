"""The idle part of `bench scale`: what replicas without load use, and how fast one starts."""

from __future__ import annotations

import time

import msgspec

from loadtest.bench.cpu import Reading, usage
from loadtest.bench.frame import BenchReport, BenchRun
from loadtest.bench.members import Kind, Processes, read_cpu, replaced, wait_for_members
from loadtest.progress import show_status, step
from loadtest.system import BenchSystem, wait_until_settled
from loadtest.waiting import wait_for
from postjournal.cli.local.status import fetch_state
from postjournal.cluster.states import is_in_sync

SETTLE_S = 5.0
"""After the start; by then each engine has published its first records and their positions."""

START_TIMEOUT_S = 300.0
POLL_S = 0.02
MB = 1024 * 1024


class IdleProcess(msgspec.Struct, frozen=True, kw_only=True):
    """One process without load. `percent`: of a core; `memory_mb`: private (USS), in MiB."""

    process: str
    kind: Kind
    percent: float
    memory_mb: float
    threads: int


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """The start of one replica while the others run; seconds since its process was started.

    `first_s`, `all_s`: its first shard, all of its shards were in sync.
    """

    first_s: float
    all_s: float

    @property
    def apart_s(self) -> float:
        """From the first shard in sync to the last one."""
        return self.all_s - self.first_s


class Idle(BenchReport, frozen=True, kw_only=True, tag="scale-idle"):
    """One number of shards. `percent`: of a core, all processes of all replicas together."""

    shards: int
    replicas: int
    seconds: float
    percent: float
    processes: list[IdleProcess]
    start: Start
    problems: list[str]

    def failures(self) -> list[str]:
        return self.problems

    def of_kind(self, kind: Kind) -> list[IdleProcess]:
        return [process for process in self.processes if process.kind is kind]

    def summary(self) -> str:
        """One line."""
        return (
            f"{self.shards} shard(s), {self.replicas} replica(s), idle: {self.percent:.1f} % of a "
            f"core; one replica's shards in sync after {self.start.all_s:.1f} s, the first after "
            f"{self.start.first_s:.1f} s"
        )


def measure_idle(run: BenchRun, shards: int, replicas: int, seconds: float) -> Idle:
    """Measure one number of shards."""
    system = run.start_storage(replicas, shards)
    with step(f"starting {replicas} replica(s) with {shards} shard(s)"):
        system.launch_replicas()
        processes = wait_for_members(system)
        _wait_until_all_settled(system)
    with step(f"measuring them for {seconds:g} s without load"):
        time.sleep(SETTLE_S)
        before = read_cpu(processes)
        time.sleep(seconds)
        found = _idle_processes(processes, before, read_cpu(processes))
    problems = replaced(processes, system.status().replicas)
    with step("restarting one of them"):
        start = _restart(system, system.plan.replica_names[-1])
        _wait_until_all_settled(system)
    return Idle(
        machine=run.machine,
        shards=shards,
        replicas=replicas,
        seconds=seconds,
        percent=round(sum(process.percent for process in found), 2),
        processes=found,
        start=start,
        problems=problems,
    )


def _wait_until_all_settled(system: BenchSystem) -> None:
    for shard in range(system.plan.shards):
        wait_until_settled(system, shard)


def _idle_processes(processes: Processes, before: Reading, after: Reading) -> list[IdleProcess]:
    cores = usage(before, after).processes
    return [
        IdleProcess(
            process=member.name,
            kind=member.kind,
            percent=round(cores[member.name] * 100, 2),
            memory_mb=round(process.memory_full_info().uss / MB, 1),
            threads=process.num_threads(),
        )
        for member, process in processes.items()
    ]


def _restart(system: BenchSystem, name: str) -> Start:
    """Stop a replica as `./postjournal stop` does, start it again, and time that."""
    system.local.stop_replica(name)
    started_s = time.monotonic()
    system.local.start_replica(name)
    times = list[float]()

    def all_in_sync() -> bool:
        state = fetch_state(system.plan.url(name))
        statuses = state.shards if state else []
        count = sum(is_in_sync(status.state) for status in statuses)
        times.extend([time.monotonic() - started_s] * (count - len(times)))
        show_status(f"{name}: {count} of {system.plan.shards} shards in sync")
        return count == system.plan.shards

    wait_for(
        all_in_sync, lambda: f"{name}'s shards are not in sync", START_TIMEOUT_S, poll_s=POLL_S
    )
    return Start(first_s=round(times[0], 3), all_s=round(times[-1], 3))
