"""`verify`: the auditor for everybody."""

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

from postjournal.cli.target import environment_with
from postjournal.config.settings import Settings, StoreSettings
from postjournal.core.errors import PostjournalError
from postjournal.verify.audit import Target, audit
from postjournal.verify.report import Report, ShardReport
from postjournal.verify.rules import MEANING

COULD_NOT_RUN = 2


class CouldNotRun(click.ClickException):
    """Nothing is said of the journal."""

    exit_code = COULD_NOT_RUN


@click.command()
@click.option("--bootstrap", metavar="HOST:PORT", help="A Kafka, instead of the running system's.")
@click.option("--namespace", help="Its topics' prefix.")
@click.option("--app", help="The application: package.module:Class.")
@click.option("--dedupe-window", type=click.IntRange(1), help="The replicas' setting.")
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A stopped local system's directory: its Kafka is started, read and stopped.",
)
@click.option("--no-snapshots", is_flag=True, help="Do not look at the snapshots' store.")
@click.option("--shard", "shards", type=click.IntRange(0), multiple=True, help="Only this shard.")
@click.option("--json", "as_json", is_flag=True, help="Only JSON on stdout.")
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
    """Check a journal against its sources, sinks, snapshots and replicas, record by record.

    The journal is folded and the application replayed by code written apart from the engine:
    every command must have been decided once and as the application decides, every output must
    be the one that the journal gives, and no digest may differ. Works on a running system, up
    to where its topics end at the start. What is not told here comes from the running system,
    or else from the POSTJOURNAL_… variables.

    Exit code 0: sound; 1: a rule is broken, and each breach names its record; 2: the check could
    not be made.
    """
    try:
        with environment_with(bootstrap, data) as environment:
            target = _target(environment, bootstrap, namespace, app, dedupe_window)
            if no_snapshots:
                target = msgspec.structs.replace(target, store=None)
            with _Bars() as bars:
                report = audit(target, shards, bars.show)
    except PostjournalError as error:
        raise CouldNotRun(str(error)) from error
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report)))
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


class _Bars:
    """One progress bar for each shard, on stderr; nothing unless that is a terminal."""

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

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, shard: int, next_offset: int, end: int, commands: int) -> None:
        """See `OnShard`."""
        if shard not in self._tasks:
            self._tasks[shard] = self._progress.add_task(f"shard {shard}", total=end, commands=0)
        self._progress.update(self._tasks[shard], completed=next_offset, commands=commands)


def _print(report: Report) -> None:
    console = Console(highlight=False)
    for shard in report.shards:
        console.print(_shard_table(shard))
        for finding in shard.findings:
            console.print(f"[red]✘[/] {finding.rule}: {finding.place}", soft_wrap=True)
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
    for name, told in _shard_lines(shard):
        table.add_row(name, told)
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
            f"behind snapshot {shard.start.snapshot} of offset {shard.start.offset}, seq "
            f"{shard.start.seq}: the journal before it is deleted, and nothing of it was checked",
        )
    yield "records", _counted(shard.accepted)
    yield "void", f"{_counted(shard.void)} ({_counted(shard.void_reasons)})" if shard.void else "0"
    yield (
        "commands",
        f"{shard.commands:,}: {shard.succeeded:,} accepted, {shard.rejected:,} rejected, "
        f"{shard.repeated:,} repeats"
        + (
            f"; {shard.unchecked:,} not decided again, their source is gone" * bool(shard.unchecked)
        ),
    )
    for topic, source in shard.sources.items():
        yield topic, f"decided up to {source.decided:,}, {source.waiting:,} waiting"
    for name, sink in shard.sinks.items():
        deleted = f"; {sink.unchecked:,} deleted" if sink.unchecked else ""
        yield (
            name,
            f"{sink.outputs:,} outputs, {sink.present:,} there, {sink.unpublished:,} not yet "
            f"published, {sink.repeats:,} repeats{deleted}",
        )
    yield "snapshots", f"{len(shard.snapshots)} compared"
    yield "replicas", _counted(shard.replicas, "digests compared: ") or "no digest told"


def _counted(counts: dict[str, int], prefix: str = "") -> str:
    told = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
    return f"{prefix}{told}" if told else ""
