"""Output for programs, and files that commands write."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
import msgspec

from postjournal.cli.errors import OperationFailed


def print_json(value: Any) -> None:
    """Print `value`, a struct or built-in types, as indented JSON on stdout."""
    click.echo(msgspec.json.format(msgspec.json.encode(value)))


def check_writable(path: Path, option: str) -> None:
    """Create the parent directory of `path` and check that the file can be written.

    Called before a long run that writes the file at its end. Raises `OperationFailed`, which names
    the `option` that selects another file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OperationFailed(f"cannot write {path}: {error}; use {option}") from error
    target = path if path.exists() else path.parent
    if not os.access(target, os.W_OK):
        raise OperationFailed(f"cannot write {path}: {target} is read-only; use {option}")
