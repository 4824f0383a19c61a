"""The report of a chaos run: JSON, Markdown, and a chart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from loadtest.chaos.chart import Chart
from loadtest.chaos.timeline import Timeline
from loadtest.chaos.verdict import Verdict
from loadtest.faults.kinds import KINDS
from loadtest.faults.schedule_runner import InjectedFault
from loadtest.machine import Machine

JSON, MARKDOWN, CHART = "report.json", "report.md", "timeline.svg"


class ChaosReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the JSON file holds. `rate`: commands per second directly into Kafka; `kept`: the
    directory of data and logs, None when they are deleted; `injected`: the faults, in order."""

    command: str
    machine: Machine
    seed: int
    minutes: float
    rate: float
    replicas: list[str]
    shards: int
    engine: str | None
    kept: str | None
    takeovers: int
    causes: dict[str, int]
    injected: list[InjectedFault]
    timeline: Timeline
    verdict: Verdict


def write(report: ChaosReport, directory: Path) -> None:
    """Write all three files into an existing directory."""
    data = msgspec.json.format(msgspec.json.encode(report))
    (directory / JSON).write_bytes(data + b"\n")
    (directory / MARKDOWN).write_text("\n".join(_markdown(report)) + "\n")
    chart = Chart(report.timeline, report.injected, report.replicas)
    (directory / CHART).write_text(chart.svg())


def summary(report: ChaosReport) -> list[str]:
    """The outcome in some lines, with rich's markup."""
    verdict = report.verdict
    mark = "[green]✔ sound[/]" if verdict.sound else "[red]✘ damaged[/]"
    done = sum(fault.missed is None for fault in report.injected)
    return [
        f"{mark}: {done} faults in {report.minutes:g} min, seed {report.seed}; "
        f"{report.takeovers} takeovers; longest silence "
        f"{report.timeline.longest_silence_ms / 1000:.1f} s",
        *(f"  {name}: {outcome}" for name, outcome in _checks(report)),
    ]


def _checks(report: ChaosReport) -> Iterator[tuple[str, str]]:
    verdict = report.verdict
    for name, found in (("directly into Kafka", verdict.kafka), ("gateway", verdict.gateway)):
        yield (
            name,
            f"{found.sent:,} sent, {found.unacknowledged:,} of them never acknowledged; "
            f"{found.outcomes:,} outcomes; {found.lost} lost, {found.doubled} twice, "
            f"{found.gaps} gaps, {found.wrong} wrong, {found.conflicts} conflicting; "
            f"balances {found.balance_sum:,} of {found.expected_sum:,}",
        )
    clients = verdict.clients
    yield (
        "clients of the gateway",
        f"{clients.results:,} answered with the result, {clients.refused:,} refused as invalid, "
        f"{clients.retries:,} requests repeated, {clients.contradictions} contradictions",
    )
    yield (
        "repeats",
        f"{verdict.repeated:,} commands sent twice, {verdict.kafka.replayed:,} replayed",
    )
    for shard in verdict.journal.shards:
        void = ", ".join(f"{kind} {count}" for kind, count in sorted(shard.void.items()))
        yield (
            f"journal of shard {shard.shard}",
            f"{shard.commands:,} commands verified, epoch {shard.epoch}, void: {void or 'none'}; "
            f"{sum(sink.repeats for sink in shard.sinks.values()):,} outputs published again; "
            f"{sum(shard.broken.values())} breaches",
        )
    compared = sum(len(shard.snapshots) for shard in verdict.journal.shards)
    done, failed = verdict.snapshots.get("done", 0), verdict.snapshots.get("failed", 0)
    yield "snapshots", f"{done} taken, {failed} attempts failed; {compared} retained and compared"
    replicas = verdict.replicas
    is_equal = replicas is not None and replicas.ok
    balances = 0 if replicas is None else replicas.balances_compared
    yield (
        "replicas",
        f"digests {'equal' if is_equal else 'NOT equal'}, {balances:,} balances compared",
    )
    yield "services", "NOT all are ready again" if verdict.not_ready else "all are ready again"
    yield "balances in Redis", "as in the results" if verdict.projection else "WRONG"


def _markdown(report: ChaosReport) -> Iterator[str]:
    verdict = "sound" if report.verdict.sound else "**DAMAGED**"
    yield f"# Chaos, seed {report.seed}: {verdict}"
    yield ""
    yield f"`{report.command}`, {report.machine.started}, {report.machine.cpus} CPUs."
    if report.engine:
        yield f"The services ran a changed engine: `{report.engine}`."
    yield ""
    yield f"![timeline]({CHART})"
    yield ""
    yield "| check | outcome |"
    yield "|---|---|"
    for name, outcome in _checks(report):
        yield f"| {name} | {outcome} |"
    yield ""
    if report.verdict.faults:
        yield "## Failed checks"
        yield ""
        yield from (f"- {failure}" for failure in report.verdict.faults)
        yield ""
    yield from _kinds(report.injected)
    yield from _faults(report)


def _kinds(faults: Sequence[InjectedFault]) -> Iterator[str]:
    done = Counter(fault.scheduled.kind for fault in faults if fault.missed is None)
    yield "## Kinds of faults"
    yield ""
    yield "| kind | what | times |"
    yield "|---|---|--:|"
    for kind in KINDS:
        yield f"| {kind.name} | {kind.description} | {done[kind.name]} |"
    yield ""


def _faults(report: ChaosReport) -> Iterator[str]:
    causes = ", ".join(f"{name} {count}" for name, count in sorted(report.causes.items()))
    yield "## Faults"
    yield ""
    yield (
        f"{report.takeovers} takeovers ({causes or 'none reported'}). The last column is the "
        "longest silence of any shard's results from the fault until the next one, or some seconds "
        "after its end."
    )
    yield ""
    yield "| at s | what | victim | led | silence ms |"
    yield "|--:|---|---|---|--:|"
    for fault, silence in zip(report.injected, report.timeline.silences_ms, strict=True):
        led = ", ".join(map(str, fault.led)) or "-"
        last = f"not injected: {fault.missed}" if fault.missed else f"{silence:.0f}"
        what = fault.scheduled.description
        yield f"| {fault.at_s:.1f} | {what} | {fault.victim} | {led} | {last} |"
