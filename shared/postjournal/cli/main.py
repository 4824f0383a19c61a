"""The command group, and how errors are told."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import click

from postjournal.cli import (
    checks,
    completion,
    doctor,
    faults,
    inspection,
    lifecycle,
    load,
    replay,
    snapshots,
    trace,
    verify,
    watch,
)
from postjournal.cli.errors import EXIT_CODES, OperationFailed
from postjournal.core.errors import PostjournalError

LATE = {name: f"postjournal.cli.{name}" for name in ("bench", "chaos", "demo")}
"""Part of the development tree only, and imported when they are asked for."""


class Commands(click.Group):
    """Turns faults that are expected into one line and an exit code; imports benches late."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except PostjournalError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(getattr(error, "exit_code", OperationFailed.exit_code))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The exit codes."""
        del ctx
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES.items()])

    def list_commands(self, ctx: click.Context) -> list[str]:
        """With those that are imported late."""
        late = [name for name, module in LATE.items() if importlib.util.find_spec(module)]
        return sorted([*super().list_commands(ctx), *late])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        module = LATE.get(cmd_name)
        if module and importlib.util.find_spec(module):
            command: click.Command = getattr(importlib.import_module(module), cmd_name)
            return command
        return super().get_command(ctx, cmd_name)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Postjournal: a stateful service that stays alive, on Apache Kafka."""


for command in (
    lifecycle.up,
    lifecycle.down,
    inspection.status,
    inspection.logs,
    watch.watch,
    doctor.doctor,
    faults.kill,
    faults.pause,
    faults.resume,
    faults.handover,
    load.load,
    verify.verify,
    trace.trace,
    snapshots.snapshot,
    snapshots.snapshots,
    replay.replay_command,
    replay.restore,
    checks.test,
    checks.lint,
    completion.completion,
):
    main.add_command(command)
