"""`python -m postjournal.config.reference`: write docs/configuration.md out of the declarations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from postjournal.config.settings import GROUPS, AnyVariable
from postjournal.config.variables import Secret

FILE = Path(__file__).parents[3] / "docs" / "configuration.md"
INTRODUCTION = """\
# Configuration

Environment variables, read once when a service starts. A value that cannot be is refused with the
variable's name and exit code 78; a variable that is empty counts as not set.

This page is written by `python -m postjournal.config.reference` out of the declarations in
`shared/postjournal/config/settings.py`, and a test compares it with them. What else the deployment
in containers takes (images, ports, memory) is in `.env`.
"""


def reference() -> str:
    """The page, in Markdown."""
    tables = ("\n".join(_table(name, group)) for name, group in GROUPS.items())
    return "\n".join((INTRODUCTION, *tables))


def _table(name: str, variables: tuple[AnyVariable, ...]) -> Iterator[str]:
    yield f"## {name}\n"
    yield "| variable | must be | default | what |"
    yield "|---|---|---|---|"
    for each in variables:
        yield "| " + " | ".join(_cells(each)) + " |"
    yield ""


def _cells(variable: AnyVariable) -> tuple[str, ...]:
    if isinstance(variable, Secret):
        name = f"`{variable.name}`, or a file: `{variable.name}_FILE`"
        return name, "text", "none", variable.about
    return f"`{variable.name}`", variable.allowed, variable.shown, variable.about


if __name__ == "__main__":
    FILE.write_text(reference())
