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
from postjournal.cli.options import app_option, bootstrap_option, json_option, namespace_option
from postjournal.cli.output import print_json
from postjournal.cli.target import target_environment
from postjournal.cli.trace.builder import CommandTrace, Step
from postjournal.cli.trace.search import Searcher
from postjournal.cluster.topics import Topics
from postjournal.config.settings import Settings

MAX_OUTPUT_CHARACTERS = 100
COLORS = {"accepted": "green", "replayed": "green", "rejected": "yellow", "waiting": "yellow"}


@click.command()
@click.argument("wanted", metavar="ID")
@bootstrap_option
@namespace_option
@app_option
@json_option
def trace(
    wanted: str, bootstrap: str | None, namespace: str | None, app: str | None, as_json: bool
) -> None:
    """Show where a command spent its time, from source to sinks.

    ID is a command's id, or a trace's (32 hexadecimal digits: the second field of `traceparent`),
    which selects all commands of that trace. Times are Kafka's timestamps in whole milliseconds:
    a source record's is when its producer created it, a journal entry's when the leader had
    decided, an output's when the leader published it, after it had read the entry back. The
    newest records are searched first.

    Exit code 3: there is no such command.
    """
    settings = Settings.from_environment(target_environment(bootstrap))
    application = load_application(app or settings.app)
    topics = Topics.of(namespace or settings.namespace, application.sources, application.sinks)
    searcher = Searcher(settings.kafka.at(bootstrap), topics)
    try:
        traces = searcher.traces(wanted)
    finally:
        searcher.close()
    if as_json:
        print_json(traces)
    else:
        _print(wanted, traces)
    if not traces:
        sys.exit(NotFound.exit_code)


def _print(wanted: str, traces: list[CommandTrace]) -> None:
    console = Console(highlight=False)
    if not traces:
        click.echo(f"no command and no trace {wanted} in the sources", err=True)
    for command in traces:
        color = COLORS[command.outcome]
        reason = f" ({escape(command.reason)})" if command.reason else ""
        repeats = f", {command.repeats} outputs published twice" if command.repeats else ""
        trace_id = f", trace {escape(command.trace_id)}" if command.trace_id else ""
        console.print(
            f"[bold]{escape(command.id)}[/]: [{color}]{command.outcome}[/]{reason} in "
            f"{command.total_ms} ms, shard {command.shard}{trace_id}{repeats}",
            soft_wrap=True,
        )
        console.print(_table(command))


def _table(command: CommandTrace) -> Table:
    table = Table("", "RECORD", "TIME", "AFTER", "", box=None, pad_edge=False)
    table.columns[3].justify = "right"
    for step in command.steps:
        at = datetime.fromtimestamp(step.time_ms / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
        position = f"{step.topic}/{step.partition}@{step.offset}"
        table.add_row(
            step.kind, position, f"{at}Z", f"{step.after_ms} ms", escape(_description(step))
        )
    return table


def _description(step: Step) -> str:
    details = step.details
    if step.kind == "source":
        parent = details.get("traceparent")
        return f"appended; traceparent {parent}" if parent else "appended"
    if step.kind == "journal":
        others = details["commands"] - 1
        return (
            f"decided as seq {details['seq']} in epoch {details['epoch']}: {details['outcome']}"
            + f", in one entry with {others} others" * bool(others)
        )
    fields = {name: value for name, value in details.items() if name != "sink"}
    text = msgspec.json.encode(fields).decode()
    if len(text) <= MAX_OUTPUT_CHARACTERS:
        return text
    return text[: MAX_OUTPUT_CHARACTERS - 1] + "…"
