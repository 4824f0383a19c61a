"""How commands answer programs."""

from __future__ import annotations

from typing import Any

import click
import msgspec

json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")


def print_json(value: Any) -> None:
    """On the standard output, indented."""
    click.echo(msgspec.json.format(msgspec.json.encode(value)))
