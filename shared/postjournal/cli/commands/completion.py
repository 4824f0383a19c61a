"""Completion in the shell: of commands and options, and of the names of what runs."""

from __future__ import annotations

import contextlib

import click
from click.shell_completion import CompletionItem, get_completion_class

from postjournal.cli.running_system import (
    default_system,
    running_system,
)
from postjournal.core.errors import PostjournalError

COMPLETE_VARIABLE = "_POSTJOURNAL_COMPLETE"
SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print what makes SHELL complete commands, options and names.

    bash: eval "$(./postjournal completion bash)". zsh and fish call `postjournal` by its name,
    so the checkout has to be on the PATH as well.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    root = click.get_current_context().find_root().command
    click.echo(kind(root, {}, "postjournal", COMPLETE_VARIABLE).source())


def complete_replica(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """`leader`, and the replicas that are running."""
    del ctx, parameter
    names = ["leader"]
    with contextlib.suppress(PostjournalError):
        rows = running_system().status().replicas
        names += dict.fromkeys(row.name for row in rows)
    return _beginning(names, incomplete)


def complete_log(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Services that have a log."""
    del ctx, parameter
    names = sorted(path.stem for path in default_system().layout.logs.glob("*.log"))
    return _beginning(names, incomplete)


def _beginning(names: list[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
