"""Tables and lines that several benches print."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table

from loadtest.bench.cpu import Usage
from loadtest.stats import Distribution


def distribution_tables(
    title: str, unit: str, rows: dict[str, Distribution]
) -> list[RenderableType]:
    """A title, and a table with a row for each distribution."""
    table = plain_table(unit, "p50", "p90", "p99", "max", "mean", "count")
    for name, row in rows.items():
        figures = (f"{value:.1f}" for value in (row.p50, row.p90, row.p99, row.max, row.mean))
        table.add_row(name, *figures, str(row.count))
    return [f"[bold]{title}[/]", table]


def plain_table(first: str, *numeric: str) -> Table:
    """A table without lines whose columns are numbers, except the first."""
    table = Table(box=None, pad_edge=False)
    table.add_column(first)
    for heading in numeric:
        table.add_column(heading, justify="right")
    return table


def cores_text(cpu: Usage) -> str:
    """How many cores each process used, in one line."""
    cores = ", ".join(f"{name} {used:.2f}" for name, used in cpu.processes.items())
    return f"cores used: {cores}"
