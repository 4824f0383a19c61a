"""Pieces of the tables that commands print."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.table import Table


def plain_table(titles: Sequence[str], right: Collection[str] = ()) -> Table:
    """Return an empty table without borders; the columns in `right` are right-aligned."""
    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title, justify="right" if title in right else "left")
    return table


def number_or_dash(value: int | None) -> str:
    """Return `value` as text, or a dash for None."""
    return "-" if value is None else str(value)
