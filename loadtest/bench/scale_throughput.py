"""The throughput part of `bench scale`: preloaded transfers through several shards at once."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import msgspec

from loadtest.bench.cpu import OTHERS, Reading
from loadtest.bench.cpu_limit import CpuLimit
from loadtest.bench.frame import AuditedReport, BenchRun
from loadtest.bench.members import (
    Kind,
    Member,
    Processes,
    broker_and_client,
    read_cpu,
    replaced,
    wait_for_members,
)
from loadtest.bench.throughput_results import Rates, rates_of, read_results
from loadtest.bench.warm_up import warm_up_broker
from loadtest.progress import step
from loadtest.system import BenchSystem, wait_until_settled
from loadtest.workload.audit import Findings
from loadtest.workload.preload import Transfers, count_results, preload_feed

MIN_S = 1.0
"""Nothing is measured in less: 20,000 results may come in two batches, and CPU time in 10 ms."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """The CPU time of one process while all shards were at work.

    `commands`: that were decided meanwhile: those of its shard for an engine, otherwise of all;
    `micros`: CPU microseconds for each of them; `cores`: CPU seconds per second.
    """

    process: str
    kind: Kind
    shard: int | None
    commands: int
    micros: float
    cores: float


class Throughput(AuditedReport, frozen=True, kw_only=True, tag="scale-throughput"):
    """One number of shards.

    `limit`: the share of a core that each engine had at most, None without; `commands`: transfers
    of each shard; `rates`: of all shards together, while all of them were at work; `micros`: by
    kind of process, CPU microseconds per command of any shard; `problems`: what else was wrong.
    `rates` is None, `micros` and `costs` are empty when that was for less than `MIN_S`.
    """

    shards: int
    replicas: int
    limit: float | None
    commands: int
    accounts: int
    rates: Rates | None
    micros: dict[Kind, float]
    costs: list[Cost]
    problems: list[str]

    def failures(self) -> list[str]:
        return super().failures() + self.problems

    def summary(self) -> str:
        """One line."""
        rate = (
            f"{self.rates.whole:,.0f} commands/s"
            if self.rates
            else "too short to measure, use more --commands"
        )
        micros = ", ".join(f"{kind} {micros:.1f}" for kind, micros in self.micros.items())
        return f"{self.shards} shard(s): {rate}; CPU microseconds per command: {micros or '-'}"


class Scaling(msgspec.Struct, frozen=True, kw_only=True):
    """One number of shards, compared with the run's first one under the same limit.

    `rate`: commands/s, as a multiple of the first one's; `engine_micros`: the same for the engines'
    CPU time per command. None: not measured.
    """

    shards: int
    limit: float | None
    rate: float | None
    engine_micros: float | None


class Sample(NamedTuple):
    """`results`: how many each shard's results topic holds."""

    results: dict[int, int]
    cpu: Reading


class Scale(NamedTuple):
    """What one measurement is of: see `Throughput`."""

    shards: int
    replicas: int
    commands: int
    accounts: int


def measure_throughput(run: BenchRun, scale: Scale, limit: CpuLimit | None) -> Throughput:
    """Measure one number of shards. `limit`: for each engine."""
    by_shard = {
        shard: run.transfers(scale.accounts, scale.commands) for shard in range(scale.shards)
    }
    system = run.start_storage(scale.replicas, scale.shards)
    warm_up_broker(system)
    preload_feed(system, by_shard)
    with step(f"running {scale.shards} shard(s)"):
        system.launch_replicas()
        engines = wait_for_members(system)
        _limit(engines, limit)
        processes = engines | broker_and_client(system)
        ends = {shard: len(transfers) for shard, transfers in by_shard.items()}
        samples = [Sample(results, read_cpu(processes)) for results in count_results(system, ends)]
    problems = _problems(system, engines)
    stamps, audit = _read_results(system, by_shard)
    costs = costs_of(samples, ends, [*processes, Member(OTHERS, Kind.OTHERS)])
    return Throughput(
        machine=run.machine,
        audit=audit,
        **scale._asdict(),
        limit=limit.share if limit else None,
        rates=rates_together(stamps),
        micros=micros_by_kind(costs),
        costs=costs,
        problems=problems,
    )


def _limit(processes: Processes, limit: CpuLimit | None) -> None:
    for member, process in processes.items():
        if limit is not None and member.kind is Kind.ENGINE:
            limit.add(process.pid)


def _problems(system: BenchSystem, processes: Processes) -> list[str]:
    found = []
    for shard in range(system.plan.shards):
        rows = wait_until_settled(system, shard, same_seq=True)
        found += replaced(processes, rows)
        if len({row.digest for row in rows}) > 1:
            found.append(f"the replicas' digests of shard {shard} differ")
    return found


def _read_results(
    system: BenchSystem, by_shard: dict[int, Transfers]
) -> tuple[list[array[int]], Findings]:
    """Kafka's timestamps of each shard's transfers, and the audit of all shards."""
    with step(f"verifying {sum(map(len, by_shard.values())):,} results"):
        results = [read_results(system, transfers, shard) for shard, transfers in by_shard.items()]
    first = next(iter(by_shard.values())).first_transfer
    stamps = [found.stamps_ms[first:] for found in results]
    return stamps, Findings.sum_of([found.findings for found in results])


def rates_together(stamps_ms: Sequence[array[int]]) -> Rates | None:
    """Rates of all shards from the last one's first result to the first one's last result.

    None when the shards were at work together for less than `MIN_S`. `stamps_ms`: for each shard.
    """
    start = max((min(stamps, default=0) for stamps in stamps_ms), default=0)
    end = min((max(stamps, default=0) for stamps in stamps_ms), default=0)
    if end - start < MIN_S * 1000:
        return None
    return rates_of(array("q", sorted(_between(start, end, stamps_ms))))


def _between(start: int, end: int, stamps_ms: Iterable[Iterable[int]]) -> Iterable[int]:
    return (stamp for stamp in chain.from_iterable(stamps_ms) if start <= stamp <= end)


def costs_of(
    samples: Sequence[Sample], ends: dict[int, int], members: Sequence[Member]
) -> list[Cost]:
    """From the first to the last sample at which all shards were at work.

    Empty when these are less than `MIN_S` apart.
    """
    busy = [
        sample
        for sample in samples
        if all(0 < sample.results[shard] < end for shard, end in ends.items())
    ]
    if not busy or busy[-1].cpu.at_s - busy[0].cpu.at_s < MIN_S:
        return []
    first, last = busy[0], busy[-1]
    done = {shard: last.results[shard] - first.results[shard] for shard in ends}
    return [_cost(member, first.cpu, last.cpu, done) for member in members]


def _cost(member: Member, first: Reading, last: Reading, done: dict[int, int]) -> Cost:
    """`done`: commands by shard."""
    used_s = max(last.used_s[member.name] - first.used_s[member.name], 0.0)
    commands = sum(done.values()) if member.shard is None else done[member.shard]
    return Cost(
        process=member.name,
        kind=member.kind,
        shard=member.shard,
        commands=commands,
        micros=round(used_s * 1e6 / max(commands, 1), 2),
        cores=round(used_s / (last.at_s - first.at_s), 3),
    )


def micros_by_kind(costs: Sequence[Cost]) -> dict[Kind, float]:
    """CPU microseconds per command of any shard, of all processes of a kind together."""
    total = max((cost.commands for cost in costs), default=0)
    used = dict[Kind, float]()
    for cost in costs:
        used[cost.kind] = used.get(cost.kind, 0.0) + cost.micros * cost.commands
    return {kind: round(micros / max(total, 1), 2) for kind, micros in used.items()}


def scaling_of(points: Sequence[Throughput]) -> list[Scaling]:
    """Each point compared with the first of its limit."""
    first: dict[float | None, Throughput] = {}
    return [_scaling(point, first.setdefault(point.limit, point)) for point in points]


def _scaling(point: Throughput, first: Throughput) -> Scaling:
    rates, micros = (point.rates, first.rates), (point.micros, first.micros)
    return Scaling(
        shards=point.shards,
        limit=point.limit,
        rate=_ratio(*(found.whole if found else None for found in rates)),
        engine_micros=_ratio(*(found.get(Kind.ENGINE) for found in micros)),
    )


def _ratio(value: float | None, first: float | None) -> float | None:
    return round(value / first, 3) if value is not None and first else None
