"""`bench scale`: what more shards bring, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TypeVar

import click
from rich.console import RenderableType

from loadtest.bench.cpu_limit import CannotLimit, CpuLimit, cpu_limit
from loadtest.bench.frame import BenchReport, BenchRun, RunOptions, bench_frame, measure
from loadtest.bench.scale_idle import Idle, measure_idle
from loadtest.bench.scale_tables import idle_tables, throughput_tables
from loadtest.bench.scale_throughput import (
    Scale,
    Scaling,
    Throughput,
    measure_throughput,
    scaling_of,
)
from loadtest.options import accounts_option, number_option
from loadtest.progress import print_line
from loadtest.workload.audit import Findings
from postjournal.cli.options import Range

P = TypeVar("P", Throughput, Idle)

SHARDS = (1, 2, 4, 8, 16)


class ScaleReport(BenchReport, frozen=True, kw_only=True, tag="scale"):
    """`not_limited`: why the engines could not be limited though --limit was given."""

    not_limited: str | None
    throughput: list[Throughput]
    scaling: list[Scaling]
    idle: list[Idle]

    def tables(self) -> Sequence[RenderableType]:
        found = throughput_tables(self.throughput, self.scaling)
        if self.not_limited is not None:
            found.append(f"[yellow]{not_limited_text(self.not_limited)}[/]")
        return [*found, *idle_tables(self.idle)]

    def verdict(self) -> list[str]:
        audits = [point.audit for point in self.throughput]
        return [Findings.sum_of(audits).summary()] if audits else []

    def failures(self) -> list[str]:
        points: list[Throughput | Idle] = [*self.throughput, *self.idle]
        return [failure for point in points for failure in point.failures()]


@click.command("scale")
@click.option(
    "--shards",
    type=click.IntRange(1, 64),
    multiple=True,
    default=SHARDS,
    show_default=True,
    help="A number of shards; may be repeated.",
)
@number_option("--replicas", click.IntRange(1, 9), 1, "Replicas while the throughput is measured.")
@number_option(
    "--commands", click.IntRange(0, 10_000_000), 500_000, "Of each shard; 0: no throughput part."
)
@accounts_option
@click.option(
    "--limit",
    "shares",
    type=Range(0.1, 1),
    multiple=True,
    help="Share of a core that each engine gets; needs root and cgroups; may be repeated.",
)
@number_option(
    "--idle-replicas", click.IntRange(0, 9), 3, "Replicas without load; 0: no such part."
)
@number_option("--idle-seconds", Range(1, 3_600), 10, "How long these are measured.")
@bench_frame(attachable=False)
def bench_scale(
    run: BenchRun,
    *,
    shards: tuple[int, ...],
    replicas: int,
    commands: int,
    accounts: int,
    shares: tuple[float, ...],
    idle_replicas: int,
    idle_seconds: float,
) -> ScaleReport:
    """Measure what more shards bring, and what they cost.

    For each number of shards, on systems of its own: how many commands per second all shards
    decide together, with all commands in their feed topics before the replicas start, and the CPU
    time of every process for it; then what replicas without load use, and how fast one starts.

    On few cores the shards compete for them, so that more shards cannot bring more throughput. With
    --limit each engine gets only a share of a core, as if there were more of them.
    """
    not_limited = _reason_not_to_limit(shares)
    scales = [Scale(count, replicas, commands, accounts) for count in shards if commands]
    limits = shares if shares and not_limited is None else (None,)
    throughput = [_throughput(run.seed, scale, share) for share in limits for scale in scales]
    idle = [
        _measured(run.seed, partial(_idle, count, idle_replicas, idle_seconds))
        for count in shards
        if idle_replicas
    ]
    return ScaleReport(
        machine=run.machine,
        not_limited=not_limited,
        throughput=throughput,
        scaling=scaling_of(throughput),
        idle=idle,
    )


def _reason_not_to_limit(shares: Sequence[float]) -> str | None:
    """Try it before anything is measured."""
    try:
        for share in shares:
            with cpu_limit(share):
                pass
    except CannotLimit as error:
        print_line(not_limited_text(str(error)))
        return str(error)
    return None


def not_limited_text(reason: str) -> str:
    """What a reader of the figures needs to know."""
    return (
        f"--limit is skipped: {reason}. Shards compete for the machine's cores: compare the CPU "
        "time per command, not commands/s."
    )


def _throughput(seed: int, scale: Scale, share: float | None) -> Throughput:
    """The limit is removed after the system has been stopped."""
    with ExitStack() as stack:
        limit: CpuLimit | None = stack.enter_context(cpu_limit(share)) if share else None
        return _measured(seed, partial(measure_throughput, scale=scale, limit=limit))


def _idle(shards: int, replicas: int, seconds: float, run: BenchRun) -> Idle:
    return measure_idle(run, shards, replicas, seconds)


def _measured(seed: int, part: Callable[[BenchRun], P]) -> P:
    point = measure(part, RunOptions(seed=seed))
    print_line(point.summary())
    return point
