"""The report of a run: JSON for programs, Markdown and a picture for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from loadtest.bench.report import Machine
from loadtest.chaos.picture import Picture
from loadtest.chaos.timeline import Timeline
from loadtest.chaos.verdict import Verdict
from loadtest.faults.schedule import KINDS
from loadtest.faults.striker import Blow

JSON, MARKDOWN, PICTURE = "report.json", "report.md", "timeline.svg"


class ChaosReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the JSON file holds. `rate`: commands per second straight into Kafka; `kept`: where
    the data and logs lie, None when they are deleted."""

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
    blows: list[Blow]
    timeline: Timeline
    verdict: Verdict


def write(report: ChaosReport, directory: Path) -> None:
    """All three files, into a directory that is there."""
    data = msgspec.json.format(msgspec.json.encode(report))
    (directory / JSON).write_bytes(data + b"\n")
    (directory / MARKDOWN).write_text("\n".join(_markdown(report)) + "\n")
    picture = Picture(report.timeline, report.blows, report.replicas)
    (directory / PICTURE).write_text(picture.svg())


def summary(report: ChaosReport) -> list[str]:
    """The outcome in some lines, with rich's markup."""
    verdict = report.verdict
    mark = "[green]✔ sound[/]" if verdict.sound else "[red]✘ damaged[/]"
    done = sum(blow.missed is None for blow in report.blows)
    return [
        f"{mark}: {done} strikes in {report.minutes:g} min, seed {report.seed}; "
        f"{report.takeovers} takeovers; longest silence "
        f"{report.timeline.longest_silence_ms / 1000:.1f} s",
        *(f"  {name}: {told}" for name, told in _checks(report)),
    ]


def _checks(report: ChaosReport) -> Iterator[tuple[str, str]]:
    verdict = report.verdict
    for name, found in (("straight into Kafka", verdict.kafka), ("gateway", verdict.gateway)):
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
    yield "snapshots", f"{done} taken, {failed} attempts failed; {compared} kept and compared"
    replicas = verdict.replicas
    equal = replicas is not None and replicas.ok
    balances = 0 if replicas is None else replicas.balances_compared
    yield (
        "replicas",
        f"digests {'equal' if equal else 'NOT equal'}, {balances:,} balances compared",
    )
    yield "services", "one is NOT back" if verdict.away else "all are back"
    yield "balances in Redis", "as the results say" if verdict.projection else "WRONG"


def _markdown(report: ChaosReport) -> Iterator[str]:
    verdict = "sound" if report.verdict.sound else "**DAMAGED**"
    yield f"# Chaos, seed {report.seed}: {verdict}"
    yield ""
    yield f"`{report.command}`, {report.machine.started}, {report.machine.cpus} CPUs."
    if report.engine:
        yield f"The services ran a changed engine: `{report.engine}`."
    yield ""
    yield f"![timeline]({PICTURE})"
    yield ""
    yield "| check | outcome |"
    yield "|---|---|"
    for name, told in _checks(report):
        yield f"| {name} | {told} |"
    yield ""
    if report.verdict.faults:
        yield "## What is wrong"
        yield ""
        yield from (f"- {fault}" for fault in report.verdict.faults)
        yield ""
    yield from _kinds(report.blows)
    yield from _blows(report)


def _kinds(blows: Sequence[Blow]) -> Iterator[str]:
    done = Counter(blow.strike.kind for blow in blows if blow.missed is None)
    yield "## Kinds of strikes"
    yield ""
    yield "| kind | what | times |"
    yield "|---|---|--:|"
    for kind in KINDS:
        yield f"| {kind.name} | {kind.told} | {done[kind.name]} |"
    yield ""


def _blows(report: ChaosReport) -> Iterator[str]:
    yield "## Strikes"
    yield ""
    yield (
        f"{report.takeovers} takeovers ({_counted(report.causes)}). The last column is the longest "
        "silence of any shard's results from the strike until the next one, or some seconds after "
        "its end."
    )
    yield ""
    yield "| at s | what | whom | led | silence ms |"
    yield "|--:|---|---|---|--:|"
    for blow, silence in zip(report.blows, report.timeline.silences_ms, strict=True):
        led = ", ".join(map(str, blow.led)) or "-"
        told = f"not done: {blow.missed}" if blow.missed else f"{silence:.0f}"
        yield f"| {blow.at_s:.1f} | {blow.strike.told()} | {blow.victim} | {led} | {told} |"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none told"
