"""How a bench tells what it measured: tables for people, JSON for programs."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console, RenderableType
from rich.table import Table

from loadtest.progress import say
from loadtest.stats import Distribution
from loadtest.workload.audit import Findings
from postjournal.adapters.kafka.client import versions
from postjournal.cli.local.layout import DEFAULT_DIRECTORY

REPORTS = DEFAULT_DIRECTORY / "bench"


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where it was measured. `load`: the 1-minute load average before the bench.

    `python_step_ns`: what one round of an empty Python loop costs just now, so that figures
    from different moments of a shared machine can be compared.
    """

    cpus: int
    load: float
    python_step_ns: float
    system: str
    python: str
    confluent_kafka: str
    librdkafka: str
    started: str


def this_machine() -> Machine:
    """As it is now."""
    confluent_kafka, librdkafka = versions()
    return Machine(
        cpus=len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        load=round(os.getloadavg()[0], 2),
        python_step_ns=_python_step_ns(),
        system=platform.platform(),
        python=platform.python_version(),
        confluent_kafka=confluent_kafka,
        librdkafka=librdkafka,
        started=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    )


def _python_step_ns() -> float:
    rounds, begun_ns = 2_000_000, time.thread_time_ns()
    for _ in range(rounds):
        pass
    return round((time.thread_time_ns() - begun_ns) / rounds, 2)


def publish(
    name: str,
    report: msgspec.Struct,
    tables: Sequence[RenderableType],
    *,
    as_json: bool,
    output: Path | None,
) -> None:
    """Write the file, whose place `report_options` has checked, and the report to stdout."""
    data = msgspec.json.format(msgspec.json.encode(report))
    path = output or _default_path(name)
    path.write_bytes(data + b"\n")
    if as_json:
        sys.stdout.write(data.decode() + "\n")
        return
    console = Console(highlight=False)
    for table in tables:
        console.print(table, soft_wrap=isinstance(table, str))
    console.print(f"JSON: {path}", soft_wrap=True)


def conclude(faults: Sequence[str]) -> None:
    """Exit with 1, saying why, if there is anything at fault."""
    for fault in faults:
        say(fault)
    if faults:
        sys.exit(1)


def _default_path(name: str) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return REPORTS / f"{name}-{stamp}.json"


def distribution_tables(
    title: str, unit: str, rows: dict[str, Distribution]
) -> list[RenderableType]:
    """A title, and one line for each distribution."""
    table = plain_table(unit, "p50", "p90", "p99", "max", "mean", "count")
    for name, row in rows.items():
        figures = (f"{value:.1f}" for value in (row.p50, row.p90, row.p99, row.max, row.mean))
        table.add_row(name, *figures, str(row.count))
    return [f"[bold]{title}[/]", table]


def plain_table(first: str, *numeric: str) -> Table:
    """Without lines; all columns but the first are figures."""
    table = Table(box=None, pad_edge=False)
    table.add_column(first)
    for heading in numeric:
        table.add_column(heading, justify="right")
    return table


def findings_line(findings: Findings) -> str:
    """The audit in one line."""
    verdict = "[green]✔[/]" if findings.ok else "[red]✘[/]"
    return (
        f"{verdict} audit: {findings.sent} sent, {findings.outcomes} outcomes "
        f"({findings.rejected} rejected as they had to be); {findings.lost} lost, "
        f"{findings.doubled} applied twice, {findings.gaps} gaps in seq, {findings.wrong} wrong, "
        f"{findings.conflicts} conflicting; {findings.repeats} published again and dropped; "
        f"balances {findings.balance_sum} of {findings.expected_sum}"
    )


def findings_faults(findings: Findings) -> list[str]:
    """What to tell when the audit failed; empty when it did not."""
    if findings.ok:
        return []
    return [*findings.examples, "the audit failed: see above, and the JSON"]
