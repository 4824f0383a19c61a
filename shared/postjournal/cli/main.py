"""The command group, and how errors are told."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import click

from postjournal.cli import checks, faults, inspection, lifecycle, load
from postjournal.core.errors import PostjournalError

BENCH = "postjournal.cli.bench"


class Commands(click.Group):
    """Turns faults that are expected into one line and exit code 1; imports benches late."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except PostjournalError as error:
            raise click.ClickException(str(error)) from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Benches are part of the development tree only."""
        benches = ["bench"] if importlib.util.find_spec(BENCH) else []
        return sorted([*super().list_commands(ctx), *benches])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name == "bench" and importlib.util.find_spec(BENCH):
            bench: click.Command = importlib.import_module(BENCH).bench
            return bench
        return super().get_command(ctx, cmd_name)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Postjournal: a stateful service that stays alive, on Apache Kafka."""


for command in (
    lifecycle.up,
    lifecycle.down,
    inspection.status,
    inspection.logs,
    faults.kill,
    faults.pause,
    faults.resume,
    faults.handover,
    load.load,
    checks.test,
    checks.lint,
):
    main.add_command(command)
