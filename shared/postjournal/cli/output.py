"""How commands answer programs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
import msgspec

from postjournal.cli.errors import OperationFailed

json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")


def print_json(value: Any) -> None:
    """On the standard output, indented."""
    click.echo(msgspec.json.format(msgspec.json.encode(value)))


def check_writable(path: Path, option: str) -> None:
    """Make the directory of a file that is written at the end: rather now than then.

    Raises `OperationFailed`, naming the `option` that moves the file elsewhere.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OperationFailed(f"{path} cannot be written: {error}; use {option}") from error
    place = path if path.exists() else path.parent
    if not os.access(place, os.W_OK):
        raise OperationFailed(f"{path} cannot be written: {place} is read-only; use {option}")
