"""`replay`: the state of a shard at any point of its journal; `restore --dry-run`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from postjournal import recovery, snapshot_codec
from postjournal.adapters.journal_look import JournalLook
from postjournal.adapters.object_store import HASTY_S, ObjectStore
from postjournal.adapters.snapshot_store import Catalogue, SnapshotStore
from postjournal.app import load_application
from postjournal.cli.errors import OperationFailed
from postjournal.cli.target import environment_with
from postjournal.core.application import Application
from postjournal.core.errors import ConfigurationError, StoreUnavailable, StoreUnusable
from postjournal.core.machine import ShardPlace
from postjournal.core.manifest import Manifest
from postjournal.core.reader import Bound
from postjournal.points import parse_time
from postjournal.replay import AnyReader, Records, make_reader, replay
from postjournal.settings import Settings, StoreSettings
from postjournal.topics import Topics
from postjournal.verify.kafka import KafkaPartition

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


class Found(msgspec.Struct, kw_only=True):
    """A shard at one point of its journal.

    `offset`, `seq`: of the last record and command that the state accounts for; `within_entry`:
    the entry that holds the command goes on after it; `time`: of the last entry, ms since the
    Unix epoch; `digest`: after the last whole entry; `snapshot`: from which it was replayed.
    """

    shard: int
    application: str
    offset: int
    seq: int
    within_entry: bool
    epoch: int
    time: int
    digest: str
    snapshot: str | None
    skipped: dict[str, str]
    seconds: float
    answer: Any = None


@click.command("replay")
@click.option("--until-offset", type=click.IntRange(0), help="Up to and with this journal record.")
@click.option("--until-seq", type=click.IntRange(0), help="Up to and with this command.")
@click.option(
    "--until-time", metavar="TIME", help="As 2026-01-31T12:00:00Z, or ms since the Unix epoch."
)
@click.option("--query", "queries", metavar="NAME=VALUE", multiple=True, help="account=alice")
@click.option("--export", "export_to", type=click.Path(dir_okay=False, path_type=Path))
@shard_option
@bootstrap_option
@data_option
@json_option
def replay_command(
    *,
    until_offset: int | None,
    until_seq: int | None,
    until_time: str | None,
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
    time_ms = parse_time(until_time) if until_time is not None else None
    bound = Bound(until_offset, until_seq, time_ms)
    if sum(each is not None for each in (until_offset, until_seq, until_time)) > 1:
        raise click.UsageError("one of --until-offset, --until-seq and --until-time")
    query = _parse_query(queries)
    with environment_with(bootstrap, data) as environment, _open(environment, shard) as source:
        reader, found = source.replay(bound, quiet=as_json)
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
    with environment_with(bootstrap, data) as environment, _open(environment, shard) as source:
        tried = source.dry_run()
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(tried)))
    else:
        _print_tried(tried)
    if tried.skipped:
        raise SystemExit(1)


class Tried(msgspec.Struct, kw_only=True):
    """What a replica would begin with. `tail`: journal records to be read after it."""

    shard: int
    snapshot: str | None
    offset: int
    seq: int
    tail: int
    seconds: float
    skipped: dict[str, str]


class _NoSnapshots:
    """Without a store the whole journal is read."""

    newest_first: tuple[Manifest, ...] = ()
    unusable: Mapping[str, str] = {}

    def read(self, manifest: Manifest) -> Iterator[bytes]:
        """Nobody asks."""
        raise AssertionError(manifest)


@dataclass
class _OfStore:
    """See `recovery.Snapshots`."""

    store: SnapshotStore
    catalogue: Catalogue

    @property
    def newest_first(self) -> list[Manifest]:
        return self.catalogue.snapshots

    @property
    def unusable(self) -> Mapping[str, str]:
        return self.catalogue.unusable

    def read(self, manifest: Manifest) -> Iterator[bytes]:
        return self.store.read(manifest)


@dataclass
class _Source:
    """One shard's journal and snapshots."""

    settings: Settings
    topic: str
    shard: int
    application: Application[Any, Any, Any]
    look: JournalLook
    snapshots: recovery.Snapshots

    @property
    def _place(self) -> ShardPlace:
        return ShardPlace(self.shard, self.settings.shards)

    def recover(self, bound: Bound) -> recovery.Recovery:
        """The nearest snapshot before the bound."""
        load = partial(
            snapshot_codec.restore,
            application=self.application,
            place=self._place,
            dedupe_window=self.settings.dedupe_window,
        )
        return recovery.recover(self.snapshots, self.look, load, bound.fits)

    def dry_run(self) -> Tried:
        """What a replica would do."""
        started = time.monotonic()
        recovered = self.recover(Bound())
        image, (_, end) = recovered.image, self.look.bounds()
        offset = image.offset if image else -1
        return Tried(
            shard=self.shard,
            snapshot=image.snapshot_id if image else None,
            offset=offset,
            seq=image.journal.next_seq - 1 if image else -1,
            tail=end - offset - 1,
            seconds=round(time.monotonic() - started, 3),
            skipped=recovered.skipped,
        )

    def replay(self, bound: Bound, *, quiet: bool) -> tuple[AnyReader, Found]:
        """Raises `PointNotReached`, and what recovering and reading raise."""
        started = time.monotonic()
        recovered, (_, end) = self.recover(bound), self.look.bounds()
        window = self.settings.dedupe_window
        reader = make_reader(self.application, self._place, window, bound)
        first = recovered.image.offset + 1 if recovered.image else 0
        last = end if bound.offset is None else min(bound.offset + 1, end)
        with _bar(first, last, quiet=quiet) as show:
            replay(reader, recovered.image, partial(self._records, end=end), end, show)
        journal = reader.journal
        return reader, Found(
            shard=self.shard,
            application=self.application.name,
            offset=reader.position - 1,
            seq=journal.next_seq - 1,
            within_entry=reader.is_within_entry,
            epoch=journal.epoch,
            time=journal.time,
            digest=journal.digest,
            snapshot=recovered.image.snapshot_id if recovered.image else None,
            skipped=recovered.skipped,
            seconds=round(time.monotonic() - started, 3),
        )

    def _records(self, start: int, end: int) -> Records:
        partition = KafkaPartition(self.settings.bootstrap, self.topic, self.shard, start, end)
        for chunk in partition.chunks(start):
            yield list(zip(chunk.offsets, chunk.values, strict=True))


@contextmanager
def _open(environment: Mapping[str, str], shard: int) -> Iterator[_Source]:
    settings = Settings.from_environment(environment)
    if shard >= settings.shards:
        raise OperationFailed(f"there are {settings.shards} shards, from 0")
    application = load_application(settings.app)
    topic = Topics.of(settings.namespace, (), ()).journal
    with closing(JournalLook(settings.bootstrap, topic, shard)) as look:
        snapshots = _snapshots(environment, settings.namespace, shard)
        yield _Source(settings, topic, shard, application, look, snapshots)


def _snapshots(environment: Mapping[str, str], namespace: str, shard: int) -> recovery.Snapshots:
    """A store that does not answer is told and done without, as a replica does."""
    store_settings = StoreSettings.from_environment(environment)
    if store_settings is None:
        return _NoSnapshots()
    store = SnapshotStore(ObjectStore(store_settings, HASTY_S), namespace)
    try:
        return _OfStore(store, store.catalogue(shard))
    except (StoreUnavailable, StoreUnusable) as error:
        click.echo(f"no snapshots: {error}", err=True)
        return _NoSnapshots()


@contextmanager
def _bar(first: int, last: int, *, quiet: bool) -> Iterator[Any]:
    columns = (
        TextColumn("replaying"),
        BarColumn(),
        TextColumn("{task.completed:,} of {task.total:,} records"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True, quiet=quiet), transient=True) as bars:
        task = bars.add_task("", total=max(last - first, 0))
        yield lambda position: bars.update(task, completed=position - first)


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


def _export(reader: AnyReader, found: Found, path: Path) -> None:
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


def _table(found: Found) -> Table:
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


def _print_tried(tried: Tried) -> None:
    for name, reason in tried.skipped.items():
        click.echo(f"passed over {name}: {reason}")
    if tried.snapshot is None:
        click.echo(f"no snapshot: the whole journal is read, {tried.tail:,} records")
        return
    click.echo(
        f"snapshot {tried.snapshot} verifies: offset {tried.offset:,}, seq {tried.seq:,}, "
        f"restored in {tried.seconds:.2f} s; {tried.tail:,} journal records follow it"
    )
