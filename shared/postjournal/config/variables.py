"""Environment variables, each declared once: its name, its values, its default, its meaning.

Services read them through these declarations, and `postjournal.config.reference` writes the
reference page from them. An empty variable counts as not set. This package is the only one that
reads `os.environ`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from postjournal.core.errors import ConfigurationError

T = TypeVar("T")
Environment = Mapping[str, str]


def process_environment(changes: Environment | None = None) -> dict[str, str]:
    """A copy of this process's environment variables, with `changes` applied."""
    return {**os.environ, **(changes or {})}


def variables_of(environment: Environment | None) -> Environment:
    """`environment`, or the variables of this process when it is None."""
    return os.environ if environment is None else environment


@dataclass(frozen=True)
class Variable(Generic[T]):
    """A variable with one value.

    `parse` raises `ValueError` for what is not `allowed`; the reference page shows `default` as
    `shown`.
    """

    name: str
    about: str
    allowed: str
    default: T
    shown: str
    parse: Callable[[str], T]

    def read(self, environment: Environment | None = None) -> T:
        """The value in `environment`, by default this process's.

        Raises `ConfigurationError`, which names the variable.
        """
        text = variables_of(environment).get(self.name)
        if not text:
            return self.default
        try:
            return self.parse(text)
        except ValueError as error:
            raise ConfigurationError(f"{self.name}={text!r}: must be {self.allowed}") from error


@dataclass(frozen=True)
class Secret:
    """A value in the variable, or in the file that the variable with the suffix `_FILE` names."""

    name: str
    about: str

    def read(self, environment: Environment | None = None) -> str | None:
        """The value in `environment`, by default this process's; None when it is not set.

        Raises `ConfigurationError` when the file cannot be read.
        """
        variables = variables_of(environment)
        path = variables.get(f"{self.name}_FILE")
        if not path:
            return variables.get(self.name) or None
        try:
            return Path(path).read_text().strip() or None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{self.name}_FILE={path!r}: {error}") from error


def text(name: str, default: str, about: str) -> Variable[str]:
    """Declare a variable that holds any text."""
    return Variable(name, about, "text", default, f"`{default}`", str)


def optional(name: str, about: str, without: str) -> Variable[str | None]:
    """Declare a variable that holds any text or None. `without`: what happens when it is None."""
    return Variable(name, about, "text", None, without, str)


def number(name: str, default: int, lowest: int, highest: int, about: str) -> Variable[int]:
    """Declare a variable that holds a whole number from `lowest` to `highest`."""

    def parse(given: str) -> int:
        value = int(given)
        if not lowest <= value <= highest:
            raise ValueError(given)
        return value

    allowed = f"a whole number from {lowest} to {highest}"
    return Variable(name, about, allowed, default, f"`{default}`", parse)


def flag(name: str, about: str) -> Variable[bool]:
    """Declare a variable that is 1 or 0, by default 0."""
    return Variable(name, about, "1 or 0", False, "`0`", _is_one)


def optional_flag(name: str, about: str, without: str) -> Variable[bool | None]:
    """Declare a variable that is 1, 0 or None. `without`: what happens when it is None."""
    return Variable(name, about, "1 or 0", None, without, _is_one)


def _is_one(given: str) -> bool:
    return bool(("0", "1").index(given))


def choice(name: str, choices: tuple[str, ...], about: str) -> Variable[str]:
    """Declare a variable that holds one of `choices`, by default the first."""

    def parse(given: str) -> str:
        return choices[choices.index(given)]

    return Variable(name, about, " or ".join(choices), choices[0], f"`{choices[0]}`", parse)
