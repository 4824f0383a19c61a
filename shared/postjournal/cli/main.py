"""The command group, and how errors are told."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from postjournal.cli import doctor, trace, watch
from postjournal.cli.commands import (
    checks,
    completion,
    faults,
    inspection,
    lifecycle,
    replay,
    snapshots,
    verify,
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
"""Commands of a checkout that the wheel does not contain, imported when they are invoked."""


class Commands(click.Group):
    """Reports expected failures as one line and an exit code; imports `loadtest` late."""

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
        """The names of all commands, with those of the checkout where there is one."""
        late = CHECKOUT_COMMANDS if _is_checkout() else {}
        return sorted([*super().list_commands(ctx), *late])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command named `cmd_name`, or None."""
        module = CHECKOUT_COMMANDS.get(cmd_name)
        if module is not None and _is_checkout():
            command: click.Command = getattr(importlib.import_module(module), cmd_name)
            return command
        return super().get_command(ctx, cmd_name)


def _is_checkout() -> bool:
    """Whether `loadtest` is beside this package; then it can be imported."""
    if not (PROJECT_ROOT / "loadtest" / "bench").is_dir():
        return False
    if str(PROJECT_ROOT) not in sys.path:
        sys.path.append(str(PROJECT_ROOT))
    return True


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
