"""The tables of `bench scale`: a column for each number of shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from rich.console import RenderableType
from rich.table import Table

from loadtest.bench.members import Kind
from loadtest.bench.scale_idle import Idle, IdleProcess
from loadtest.bench.scale_throughput import MIN_S, Cost, Scaling, Throughput
from loadtest.bench.tables import plain_table

P = TypeVar("P")
Row = tuple[str, Callable[[P], str]]
"""A name, and the cell of each point."""

UNKNOWN = "-"
IDLE_KINDS = (Kind.PARENT, Kind.HTTP, Kind.ENGINE)


def throughput_tables(
    points: Sequence[Throughput], scaling: Sequence[Scaling]
) -> list[RenderableType]:
    """One for each limit; none without measurements."""
    pairs = list(zip(points, scaling, strict=True))
    found: list[RenderableType] = []
    for limit in dict.fromkeys(point.limit for point in points):
        chosen = [pair for pair in pairs if pair[0].limit == limit]
        table = _rates(chosen)
        _add_costs(table, [point for point, _ in chosen])
        found += [_title(chosen[0][0]), table]
    if not all(point.rates and point.costs for point in points):
        found.append(f"{UNKNOWN}: all at work for less than {MIN_S:g} s; use more --commands")
    return found


def _title(point: Throughput) -> str:
    limit = f", each engine limited to {point.limit:g} of a core" if point.limit else ""
    return (
        f"[bold]Throughput[/] while all shards are at work: {point.replicas} replica(s), "
        f"{point.commands:,} transfers of each shard{limit}; an engine's CPU is per command of its "
        "shard"
    )


def _rates(pairs: Sequence[tuple[Throughput, Scaling]]) -> Table:
    rows: list[Row[tuple[Throughput, Scaling]]] = [
        ("commands/s", lambda pair: _rate(pair[0])),
        ("  ratio to the first", lambda pair: _ratio(pair[1].rate)),
        ("  measured for", lambda pair: _seconds(pair[0])),
        ("cores of each engine", lambda pair: value_range(_engine_cores(pair[0].costs), 2)),
        ("CPU of all engines, µs per command", lambda pair: _engine_micros(pair[0])),
        ("  ratio to the first", lambda pair: _ratio(pair[1].engine_micros)),
    ]
    return _table([point.shards for point, _ in pairs], pairs, rows)


def _add_costs(table: Table, points: Sequence[Throughput]) -> None:
    columns = [{cost.process: cost.micros for cost in point.costs} for point in points]
    table.add_row("CPU of each process, µs per command")
    for process in sorted({name for column in columns for name in column}, key=natural):
        cells = (f"{column[process]:.2f}" if process in column else "" for column in columns)
        table.add_row(f"  {process}", *cells)


def idle_tables(points: Sequence[Idle]) -> list[RenderableType]:
    """None without measurements."""
    if not points:
        return []
    rows: list[Row[Idle]] = [
        ("CPU of all processes, % of a core", lambda point: f"{point.percent:.1f}"),
        *_by_kind("  each {}", lambda process: process.percent, 2),
        *_by_kind("private memory of each {}, MiB", lambda process: process.memory_mb, 1),
        *_by_kind("threads of each {}", lambda process: process.threads, 0),
        ("start of a replica: first shard in sync", lambda point: f"{point.start.first_s:.2f} s"),
        ("  all shards in sync", lambda point: f"{point.start.all_s:.2f} s"),
        ("  all after the first", lambda point: f"{point.start.apart_s:.2f} s"),
    ]
    table = _table([point.shards for point in points], points, rows)
    return [f"[bold]Without load[/]: {points[0].replicas} replica(s)", table]


def _by_kind(name: str, figure: Callable[[IdleProcess], float], digits: int) -> Iterator[Row[Idle]]:
    for kind in IDLE_KINDS:

        def cell(point: Idle, kind: Kind = kind) -> str:
            return value_range([figure(process) for process in point.of_kind(kind)], digits)

        yield name.format(kind), cell


def _table(shards: Sequence[int], points: Sequence[P], rows: Sequence[Row[P]]) -> Table:
    table = plain_table("shards", *map(str, shards))
    for name, cell in rows:
        table.add_row(name, *map(cell, points))
    return table


def _rate(point: Throughput) -> str:
    return f"{point.rates.whole:,.0f}" if point.rates else UNKNOWN


def _seconds(point: Throughput) -> str:
    return f"{point.rates.seconds:.1f} s" if point.rates else UNKNOWN


def _engine_cores(costs: Sequence[Cost]) -> list[float]:
    return [cost.cores for cost in costs if cost.kind is Kind.ENGINE]


def _engine_micros(point: Throughput) -> str:
    return f"{point.micros[Kind.ENGINE]:.2f}" if point.micros else UNKNOWN


def _ratio(ratio: float | None) -> str:
    return UNKNOWN if ratio is None else f"×{ratio:.2f}"


def value_range(values: Sequence[float], digits: int) -> str:
    """The lowest and the highest value, or the one that all have."""
    if not values:
        return UNKNOWN
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low}–{high}"


def natural(name: str) -> tuple[str, int]:
    """Sorts shard 10 behind shard 9."""
    text, _, number = name.rpartition(" ")
    return (text, int(number)) if number.isdigit() else (name, 0)
