"""`completion`: shell completion of commands, options, replicas and services."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import click
from click.shell_completion import CompletionItem, get_completion_class

from postjournal.cli.running_system import default_system, running_system
from postjournal.core.errors import PostjournalError

COMPLETE_VARIABLE = "_POSTJOURNAL_COMPLETE"
SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion script for SHELL.

    bash: eval "$(./postjournal completion bash)". In zsh and fish the script completes the name
    `postjournal`, so the checkout must be on the PATH.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    root = click.get_current_context().find_root().command
    click.echo(kind(root, {}, "postjournal", COMPLETE_VARIABLE).source())


def complete_replica(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete `leader` and the names of the running system's replicas."""
    del ctx, parameter
    names = ["leader"]
    with contextlib.suppress(PostjournalError):
        rows = running_system().status().replicas
        names += dict.fromkeys(row.name for row in rows)
    return _matching(names, incomplete)


def complete_log(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the names of the services that have a log file."""
    del ctx, parameter
    return _matching(default_system().layout.log_names(), incomplete)


def _matching(names: Iterable[str], prefix: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(prefix)]
