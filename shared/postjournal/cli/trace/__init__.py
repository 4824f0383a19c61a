"""`trace`: where a command spent its time, record by record."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from postjournal.app import load_application
from postjournal.cli.errors import NotFound
from postjournal.cli.output import json_option, print_json
from postjournal.cli.target import environment_of
from postjournal.cli.trace.builder import CommandTrace, Step
from postjournal.cli.trace.search import Searcher
from postjournal.cluster.topics import Topics
from postjournal.config.settings import Settings

SHOWN_CHARACTERS = 100
COLOURS = {"accepted": "green", "replayed": "green", "rejected": "yellow", "waiting": "yellow"}


@click.command()
@click.argument("wanted", metavar="ID")
@click.option("--bootstrap", metavar="HOST:PORT", help="A Kafka, instead of the running system's.")
@click.option("--namespace", help="Its topics' prefix.")
@click.option("--app", help="The application: package.module:Class.")
@json_option
def trace(
    wanted: str, bootstrap: str | None, namespace: str | None, app: str | None, as_json: bool
) -> None:
    """Show where the command ID spent its time, from its source to the sinks.

    ID is the command's, or that of a trace (32 hexadecimal digits: the second field of
    `traceparent`), whose commands are then shown. Times are Kafka's timestamps, whole
    milliseconds: of the source record when its producer made it, of the journal entry when the
    leader had decided, of an output when the leader published it, that is, after it had read the
    entry back. Newest records are searched first.

    Exit code 3: there is no such command.
    """
    settings = Settings.from_environment(environment_of(bootstrap))
    application = load_application(app or settings.app)
    topics = Topics.of(namespace or settings.namespace, application.sources, application.sinks)
    searcher = Searcher(settings.kafka.at(bootstrap), topics)
    try:
        stories = searcher.stories(wanted)
    finally:
        searcher.close()
    if as_json:
        print_json(stories)
    else:
        _print(wanted, stories)
    if not stories:
        sys.exit(NotFound.exit_code)


def _print(wanted: str, stories: list[CommandTrace]) -> None:
    console = Console(highlight=False)
    if not stories:
        click.echo(f"no command and no trace {wanted} in the sources", err=True)
    for trace_of in stories:
        colour = COLOURS[trace_of.outcome]
        because = f" ({escape(trace_of.reason)})" if trace_of.reason else ""
        repeats = f", {trace_of.repeats} outputs published twice" if trace_of.repeats else ""
        trace_id = f", trace {escape(trace_of.trace_id)}" if trace_of.trace_id else ""
        console.print(
            f"[bold]{escape(trace_of.id)}[/]: [{colour}]{trace_of.outcome}[/]{because} in "
            f"{trace_of.total_ms} ms, shard {trace_of.shard}{trace_id}{repeats}",
            soft_wrap=True,
        )
        console.print(_table(trace_of))


def _table(trace_of: CommandTrace) -> Table:
    table = Table("", "RECORD", "TIME", "AFTER", "", box=None, pad_edge=False)
    table.columns[3].justify = "right"
    for step in trace_of.steps:
        at = datetime.fromtimestamp(step.time_ms / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
        place = f"{step.topic}/{step.partition}@{step.offset}"
        table.add_row(step.kind, place, f"{at}Z", f"{step.after_ms} ms", escape(_said(step)))
    return table


def _said(step: Step) -> str:
    told = step.told
    if step.kind == "source":
        parent = told.get("traceparent")
        return f"appended; traceparent {parent}" if parent else "appended"
    if step.kind == "journal":
        company = told["commands"] - 1
        return (
            f"decided as seq {told['seq']} in epoch {told['epoch']}: {told['outcome']}"
            + f", with {company} others" * bool(company)
        )
    text = msgspec.json.encode({k: v for k, v in told.items() if k != "sink"}).decode()
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
