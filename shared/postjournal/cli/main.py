"""The command group, and how errors are reported."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from postjournal.cli.commands import (
    checks,
    completion,
    doctor,
    faults,
    inspection,
    lifecycle,
    replay,
    snapshots,
    trace,
    verify,
    watch,
)
from postjournal.cli.errors import EXIT_CODES, OperationFailed
from postjournal.cli.local.layout import PROJECT_ROOT
from postjournal.core.errors import PostjournalError

CHECKOUT_COMMANDS = {
    "bench": "loadtest.bench",
    "chaos": "loadtest.chaos",
    "demo": "loadtest.demo",
    "load": "loadtest.gateway.command",
}
"""Commands that need a checkout: the wheel does not contain `loadtest`. Imported on use."""


class Commands(click.Group):
    """Reports expected errors as one line and an exit code; imports `loadtest` on use."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PostjournalError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(getattr(error, "exit_code", OperationFailed.exit_code))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES.items()])

    def list_commands(self, ctx: click.Context) -> list[str]:
        further = CHECKOUT_COMMANDS if _is_checkout() else {}
        return sorted([*super().list_commands(ctx), *further])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = CHECKOUT_COMMANDS.get(cmd_name)
        if module is not None and _is_checkout():
            command: click.Command = getattr(importlib.import_module(module), cmd_name)
            return command
        return super().get_command(ctx, cmd_name)


def _is_checkout() -> bool:
    """Whether `loadtest` is beside this package; makes it importable if so."""
    if not (PROJECT_ROOT / "loadtest" / "bench").is_dir():
        return False
    if str(PROJECT_ROOT) not in sys.path:
        sys.path.append(str(PROJECT_ROOT))
    return True


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Postjournal keeps a stateful service alive on Apache Kafka."""


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
    verify.verify,
    trace.trace,
    snapshots.snapshot,
    snapshots.snapshots,
    replay.replay_command,
    replay.restore,
    checks.test,
    checks.lint,
    checks.format_command,
    checks.lock,
    completion.completion,
):
    main.add_command(command)
