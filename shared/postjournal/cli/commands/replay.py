"""`replay`: the state of a shard at any point of its journal; `restore --dry-run`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from postjournal.cli.errors import OperationFailed
from postjournal.cli.options import bootstrap_option, data_option, json_option
from postjournal.cli.output import check_writable, print_json
from postjournal.cli.target import open_target_environment
from postjournal.core.errors import ConfigurationError
from postjournal.core.reader import Bound
from postjournal.history.bounds import parse_bound, parse_time
from postjournal.history.point_in_time import ReplayResult, RestoreDryRun, Show, open_point_in_time
from postjournal.history.replay import AnyReader

shard_option = click.option(
    "--shard", type=click.IntRange(0), default=0, show_default=True, help="The shard to read."
)

T = TypeVar("T")


def _parsed(
    parse: Callable[[str], T],
) -> Callable[[click.Context, click.Parameter, str | None], T | None]:
    """Return an option callback that reports a value that `parse` rejects as invalid usage."""

    def callback(_: click.Context, __: click.Parameter, text: str | None) -> T | None:
        try:
            return None if text is None else parse(text)
        except ConfigurationError as error:
            raise click.BadParameter(str(error)) from error

    return callback


@click.command("replay")
@click.option(
    "--until",
    metavar="POINT",
    callback=_parsed(parse_bound),
    help="offset:N, seq:N or time:TIME, as the three options below.",
)
@click.option("--until-offset", type=click.IntRange(0), help="Up to and including this record.")
@click.option("--until-seq", type=click.IntRange(0), help="Up to and including this command.")
@click.option(
    "--until-time",
    metavar="TIME",
    callback=_parsed(parse_time),
    help="Up to this time: 2026-01-31T12:00:00Z, or ms since the Unix epoch.",
)
@click.option(
    "--query",
    "queries",
    metavar="NAME=VALUE",
    multiple=True,
    help="Query the state, for example account=alice.",
)
@click.option(
    "--export",
    "export_to",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the whole state to this JSON file.",
)
@shard_option
@bootstrap_option
@data_option
@json_option
def replay_command(
    *,
    until: Bound | None,
    until_offset: int | None,
    until_seq: int | None,
    until_time: int | None,
    queries: tuple[str, ...],
    export_to: Path | None,
    shard: int,
    bootstrap: str | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Show a shard's state now, or at an offset, command or time.

    Restores the nearest snapshot before that point and reads the journal from there. Writes
    nothing but the file of --export, and sends no request to replicas.
    """
    bounds = (until, until_offset, until_seq, until_time)
    if sum(bound is not None for bound in bounds) > 1:
        raise click.UsageError("use one of --until, --until-offset, --until-seq and --until-time")
    bound = until or Bound(until_offset, until_seq, until_time)
    query = _parse_query(queries)
    if export_to is not None:
        check_writable(export_to, "--export")
    with (
        open_target_environment(bootstrap, data) as environment,
        open_point_in_time(environment, shard) as point_in_time,
    ):
        with progress_bar(quiet=as_json) as show:
            reader, result = point_in_time.replay(bound, show)
        if query:
            result.answer = _query(reader, query)
        if export_to is not None:
            _export(reader, result, export_to)
    if as_json:
        print_json(result)
    else:
        Console(highlight=False).print(_table(result))


@click.command()
@click.option("--dry-run", is_flag=True, help="Required: replicas restore when they start.")
@shard_option
@bootstrap_option
@data_option
@json_option
def restore(
    *, dry_run: bool, shard: int, bootstrap: str | None, data: Path | None, as_json: bool
) -> None:
    """Read and verify the snapshot that a replica would restore.

    Exit code 1: nothing could be restored, or a snapshot was skipped.
    """
    if not dry_run:
        raise OperationFailed("replicas restore on their own when they start; use --dry-run")
    with (
        open_target_environment(bootstrap, data) as environment,
        open_point_in_time(environment, shard) as point_in_time,
    ):
        result = point_in_time.dry_run()
    if as_json:
        print_json(result)
    else:
        _print_dry_run(result)
    if result.skipped:
        raise SystemExit(1)


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Show]:
    """Show a bar on stderr unless `quiet`; yield a function of the records read and in total."""
    columns = (
        TextColumn("replaying"),
        BarColumn(),
        TextColumn("{task.completed:,} of {task.total:,} records"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True, quiet=quiet), transient=True) as bars:
        task = bars.add_task("", total=0)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _parse_query(texts: tuple[str, ...]) -> dict[str, str]:
    query = {}
    for text in texts:
        name, is_pair, value = text.partition("=")
        if not (name and is_pair):
            raise click.UsageError(f"--query {text}: use NAME=VALUE")
        query[name] = value
    return query


def _query(reader: AnyReader, query: dict[str, str]) -> Any:
    answer, error = reader.machine.query(query)
    if error is not None:
        raise OperationFailed(f"the application's query {error}")
    return answer


def _export(reader: AnyReader, result: ReplayResult, path: Path) -> None:
    application = reader.machine.application
    try:
        state = msgspec.json.encode(application.export(reader.machine.state))
    except TypeError as error:
        raise ConfigurationError(
            f"the state of {application.name} is not JSON-compatible ({error}): override `export`"
        ) from error
    document = {**msgspec.to_builtins(result), "state": msgspec.Raw(state)}
    del document["answer"]
    path.write_bytes(msgspec.json.encode(document) + b"\n")


def _table(result: ReplayResult) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    within = " (within its entry)" if result.within_entry else ""
    rows = {
        "shard": str(result.shard),
        "offset": f"{result.offset:,}",
        "seq": f"{result.seq:,}{within}",
        "epoch": str(result.epoch),
        "digest": result.digest,
        "from": f"snapshot {result.snapshot}" if result.snapshot else "the journal's beginning",
        "took": f"{result.seconds:.2f} s",
    }
    if result.set_back_ms:
        back_s = result.set_back_ms / 1_000
        rows["times"] = (
            f"run backwards by up to {back_s:.1f} s, where a leader followed whose clock was "
            "behind: a time may lie at several points, and the first is meant"
        )
    if result.answer is not None:
        rows["answer"] = msgspec.json.encode(result.answer).decode()
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _print_dry_run(result: RestoreDryRun) -> None:
    for name, reason in result.skipped.items():
        click.echo(f"skipped {name}: {reason}")
    if result.snapshot is None:
        click.echo(f"no snapshot: a replica reads the whole journal, {result.tail:,} records")
        return
    click.echo(
        f"snapshot {result.snapshot} verifies: offset {result.offset:,}, seq {result.seq:,}, "
        f"restored in {result.seconds:.2f} s; {result.tail:,} journal records after it"
    )
