"""`verify`: audit a journal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from postjournal.cli.options import (
    app_option,
    bootstrap_option,
    data_option,
    json_option,
    namespace_option,
)
from postjournal.cli.output import print_json
from postjournal.cli.target import open_target_environment
from postjournal.config.settings import Settings, StoreSettings
from postjournal.core.errors import PostjournalError
from postjournal.verify.audit import Target, audit
from postjournal.verify.report import Report, ShardReport
from postjournal.verify.rules import MEANING

COULD_NOT_RUN = 2


class CouldNotRun(click.ClickException):
    """The check could not run, which proves nothing about the journal."""

    exit_code = COULD_NOT_RUN


@click.command()
@bootstrap_option
@namespace_option
@app_option
@click.option("--dedupe-window", type=click.IntRange(1), help="The replicas' dedupe window.")
@data_option
@click.option("--no-snapshots", is_flag=True, help="Do not check the snapshots.")
@click.option(
    "--shard",
    "shards",
    type=click.IntRange(0),
    multiple=True,
    help="Only this shard; may be repeated.",
)
@json_option
def verify(
    *,
    bootstrap: str | None,
    namespace: str | None,
    app: str | None,
    dedupe_window: int | None,
    data: Path | None,
    no_snapshots: bool,
    shards: tuple[int, ...],
    as_json: bool,
) -> None:
    """Audit a journal: every record, output, snapshot and digest.

    Code that is independent of the engine folds the journal and replays the application: every
    command must be decided once and as the application decides it, every output must be the one
    that the journal implies, and all digests must be equal. The system may be running: the audit
    reads up to where its topics end now. Settings that are not given as options are those of the
    running system, or of the POSTJOURNAL_… variables.

    Exit code 0: sound; 1: a rule is broken, with the records that break it; 2: the check could
    not run.
    """
    try:
        with open_target_environment(bootstrap, data) as environment:
            target = _target(environment, bootstrap, namespace, app, dedupe_window)
            if no_snapshots:
                target = msgspec.structs.replace(target, store=None)
            with _ProgressBars() as bars:
                report = audit(target, shards, bars.show)
    except PostjournalError as error:
        raise CouldNotRun(str(error)) from error
    if as_json:
        print_json(report)
    else:
        _print(report)
    sys.exit(0 if report.sound else 1)


def _target(
    environment: dict[str, str],
    bootstrap: str | None,
    namespace: str | None,
    app: str | None,
    dedupe_window: int | None,
) -> Target:
    settings = Settings.from_environment(environment)
    return Target(
        kafka=settings.kafka.at(bootstrap),
        namespace=namespace or settings.namespace,
        application=app or settings.app,
        dedupe_window=dedupe_window or settings.dedupe_window,
        store=StoreSettings.from_environment(environment),
    )


class _ProgressBars:
    """One progress bar for each shard, on stderr if that is a terminal."""

    def __init__(self) -> None:
        console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %  {task.fields[commands]:,} commands"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[int, TaskID] = {}

    def __enter__(self) -> _ProgressBars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, shard: int, next_offset: int, end: int, commands: int) -> None:
        if shard not in self._tasks:
            self._tasks[shard] = self._progress.add_task(f"shard {shard}", total=end, commands=0)
        self._progress.update(self._tasks[shard], completed=next_offset, commands=commands)


def _print(report: Report) -> None:
    console = Console(highlight=False)
    for shard in report.shards:
        console.print(_shard_table(shard))
        for finding in shard.findings:
            console.print(f"[red]✘[/] {finding.rule}: {finding.location}", soft_wrap=True)
            console.print(f"  {finding.text}", markup=False, soft_wrap=True)
    broken = [rule for rule in MEANING if any(rule.value in s.broken for s in report.shards)]
    for rule in broken:
        count = sum(shard.broken.get(rule.value, 0) for shard in report.shards)
        console.print(f"[red]{rule.value}[/] broken {count} times: {MEANING[rule]}", soft_wrap=True)
    verdict = "[red]✘ damaged[/]" if broken else "[green]✔ sound[/]"
    console.print(
        f"{verdict}: {report.commands:,} commands in {report.seconds:.1f} s "
        f"({report.commands_per_second:,.0f}/s)"
    )


def _shard_table(shard: ShardReport) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, text in _shard_lines(shard):
        table.add_row(name, text)
    return table


def _shard_lines(shard: ShardReport) -> Iterator[tuple[str, str]]:
    yield (
        f"[bold]shard {shard.shard}[/]",
        f"journal {shard.journal_first}…{shard.journal_end}, epoch {shard.epoch}, "
        f"leader {escape(shard.leader or 'none')}, seq {shard.seq}, digest {shard.digest}",
    )
    if shard.start is not None:
        yield (
            "[yellow]begins[/]",
            f"after snapshot {shard.start.snapshot} of offset {shard.start.offset}, seq "
            f"{shard.start.seq}: the journal before it is deleted and was not checked",
        )
    yield "records", _counts(shard.accepted)
    yield "void", f"{_counts(shard.void)} ({_counts(shard.void_reasons)})" if shard.void else "0"
    unchecked = f"; {shard.unchecked:,} not decided again, their source records are deleted"
    yield (
        "commands",
        f"{shard.commands:,}: {shard.succeeded:,} accepted, {shard.rejected:,} rejected, "
        f"{shard.repeated:,} repeats" + unchecked * bool(shard.unchecked),
    )
    for topic, source in shard.sources.items():
        yield topic, f"decided up to {source.decided:,}, {source.waiting:,} waiting"
    for name, sink in shard.sinks.items():
        deleted = f"; {sink.unchecked:,} deleted" if sink.unchecked else ""
        yield (
            name,
            f"{sink.outputs:,} outputs, {sink.present:,} in the topic, {sink.unpublished:,} not "
            f"yet published, {sink.repeats:,} repeats{deleted}",
        )
    yield "snapshots", f"{len(shard.snapshots)} compared"
    yield "replicas", _counts(shard.replicas, "digests compared: ") or "no digests reported"


def _counts(counts: dict[str, int], prefix: str = "") -> str:
    text = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
    return f"{prefix}{text}" if text else ""
