"""`doctor`: what is wrong with this machine, before the user finds out."""

from __future__ import annotations

import sys

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from postjournal.cli.doctor.diagnosis import Finding, State, diagnose
from postjournal.cli.doctor.facts import look
from postjournal.cli.output import json_option, print_json

MARKS = {
    State.GOOD: "[green]✔[/]",
    State.WARNING: "[yellow]![/]",
    State.BAD: "[red]✘[/]",
}


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Look for what would keep Postjournal from running well on this machine.

    Exit code 0: nothing stands in the way (there may be warnings); 1: something does.
    """
    findings = diagnose(look())
    if as_json:
        print_json(findings)
    else:
        _print(findings)
    sys.exit(1 if any(finding.state is State.BAD for finding in findings) else 0)


def _print(findings: list[Finding]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    for finding in findings:
        said = escape(finding.found)
        if finding.advice:
            said += f"\n[dim]{escape(finding.advice)}[/]"
        table.add_row(MARKS[finding.state], finding.name, said)
    Console(highlight=False).print(table)
