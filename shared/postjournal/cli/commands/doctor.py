"""`doctor`: problems of this machine that would keep Postjournal from running."""

from __future__ import annotations

import sys
from contextlib import suppress

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from postjournal.cli.doctor.diagnosis import Finding, State, diagnose
from postjournal.cli.doctor.machine import inspect_machine
from postjournal.cli.doctor.topics import diagnose_topics
from postjournal.cli.errors import OperationFailed
from postjournal.cli.options import bootstrap_option, json_option
from postjournal.cli.output import print_json
from postjournal.cli.target import target_environment

MARKS = {
    State.GOOD: "[green]✔[/]",
    State.WARNING: "[yellow]![/]",
    State.BAD: "[red]✘[/]",
}


@click.command()
@bootstrap_option
@json_option
def doctor(bootstrap: str | None, as_json: bool) -> None:
    """Check whether Postjournal can run on this machine.

    Also checks the settings of the topics of the running system, or of the one that --bootstrap or
    POSTJOURNAL_BOOTSTRAP names. Exit code 0: no problem (there may be warnings); 1: a problem.
    """
    findings = diagnose(inspect_machine())
    with suppress(OperationFailed):  # no system is running
        findings += diagnose_topics(target_environment(bootstrap), bootstrap)
    if as_json:
        print_json(findings)
    else:
        _print(findings)
    sys.exit(1 if any(finding.state is State.BAD for finding in findings) else 0)


def _print(findings: list[Finding]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    for finding in findings:
        text = escape(finding.found)
        if finding.advice:
            text += f"\n[dim]{escape(finding.advice)}[/]"
        table.add_row(MARKS[finding.state], finding.name, text)
    Console(highlight=False).print(table)
