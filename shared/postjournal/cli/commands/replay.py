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
from postjournal.cli.output import check_writable
from postjournal.cli.target import environment_with
from postjournal.core.errors import ConfigurationError
from postjournal.core.reader import Bound
from postjournal.history.bounds import parse_bound, parse_time
from postjournal.history.point_in_time import ReplayResult, RestoreDryRun, Show, open_point_in_time
from postjournal.history.replay import AnyReader

shard_option = click.option("--shard", type=click.IntRange(0), default=0, show_default=True)
bootstrap_option = click.option(
    "--bootstrap", metavar="HOST:PORT", help="A Kafka, instead of the running system's."
)
data_option = click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A stopped local system's directory: its Kafka is started, read and stopped.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Only JSON on stdout.")


T = TypeVar("T")


def _parsed(
    parse: Callable[[str], T],
) -> Callable[[click.Context, click.Parameter, str | None], T | None]:
    """A value that cannot be understood is wrong usage."""

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
    help="offset:N, seq:N or time:TIME: what one of the next three says.",
)
@click.option("--until-offset", type=click.IntRange(0), help="Up to and with this journal record.")
@click.option("--until-seq", type=click.IntRange(0), help="Up to and with this command.")
@click.option(
    "--until-time",
    metavar="TIME",
    callback=_parsed(parse_time),
    help="As 2026-01-31T12:00:00Z, or ms since the Unix epoch.",
)
@click.option("--query", "queries", metavar="NAME=VALUE", multiple=True, help="account=alice")
@click.option("--export", "export_to", type=click.Path(dir_okay=False, path_type=Path))
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
    """Show a shard's state as it was at an offset, a command or a time; by default as it is now.

    The nearest snapshot before that point is restored and the journal read from there; nothing
    is written anywhere, and no replica is asked.
    """
    if sum(each is not None for each in (until, until_offset, until_seq, until_time)) > 1:
        raise click.UsageError("one of --until, --until-offset, --until-seq and --until-time")
    bound = until or Bound(until_offset, until_seq, until_time)
    query = _parse_query(queries)
    if export_to is not None:
        check_writable(export_to, "--export")
    with (
        environment_with(bootstrap, data) as environment,
        open_point_in_time(environment, shard) as past,
    ):
        with progress_bar(quiet=as_json) as show:
            reader, found = past.replay(bound, show)
        if query:
            found.answer = _ask(reader, query)
        if export_to is not None:
            _export(reader, found, export_to)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        Console(highlight=False).print(_table(found))


@click.command()
@click.option("--dry-run", is_flag=True, help="Replicas restore by themselves; this only tries.")
@shard_option
@bootstrap_option
@data_option
@json_option
def restore(
    *, dry_run: bool, shard: int, bootstrap: str | None, data: Path | None, as_json: bool
) -> None:
    """Try what a replica would restore: read the snapshot whole, and verify it.

    Exit code 1: nothing could be restored, or a snapshot had to be passed over.
    """
    if not dry_run:
        raise OperationFailed("replicas restore by themselves when they start; use --dry-run")
    with (
        environment_with(bootstrap, data) as environment,
        open_point_in_time(environment, shard) as past,
    ):
        tried = past.dry_run()
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(tried)))
    else:
        _print_tried(tried)
    if tried.skipped:
        raise SystemExit(1)


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Show]:
    """On stderr, unless `quiet`; it is told how many of how many records."""
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


def _ask(reader: AnyReader, query: dict[str, str]) -> Any:
    answer, error = reader.machine.query(query)
    if error is not None:
        raise OperationFailed(f"the application's query {error}")
    return answer


def _export(reader: AnyReader, found: ReplayResult, path: Path) -> None:
    application = reader.machine.application
    try:
        state = msgspec.json.encode(application.export(reader.machine.state))
    except TypeError as error:
        raise ConfigurationError(
            f"the state of {application.name} is not made for JSON ({error}): override `export`"
        ) from error
    whole = {**msgspec.to_builtins(found), "state": msgspec.Raw(state)}
    del whole["answer"]
    path.write_bytes(msgspec.json.encode(whole) + b"\n")


def _table(found: ReplayResult) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    within = " (in the middle of its entry)" if found.within_entry else ""
    rows = {
        "shard": str(found.shard),
        "offset": f"{found.offset:,}",
        "seq": f"{found.seq:,}{within}",
        "epoch": str(found.epoch),
        "digest": found.digest,
        "from": f"snapshot {found.snapshot}" if found.snapshot else "the journal's beginning",
        "took": f"{found.seconds:.2f} s",
    }
    if found.answer is not None:
        rows["answer"] = msgspec.json.encode(found.answer).decode()
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _print_tried(tried: RestoreDryRun) -> None:
    for name, reason in tried.skipped.items():
        click.echo(f"passed over {name}: {reason}")
    if tried.snapshot is None:
        click.echo(f"no snapshot: the whole journal is read, {tried.tail:,} records")
        return
    click.echo(
        f"snapshot {tried.snapshot} verifies: offset {tried.offset:,}, seq {tried.seq:,}, "
        f"restored in {tried.seconds:.2f} s; {tried.tail:,} journal records follow it"
    )
