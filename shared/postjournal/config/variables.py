"""Environment variables, each declared once: its name, what it may be, its default, its meaning.

Services read them through these declarations, and `postjournal.config.reference` writes the
reference out of them. An empty variable is as one that is not set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from postjournal.core.errors import ConfigurationError

T = TypeVar("T")
Environment = Mapping[str, str]


@dataclass(frozen=True)
class Variable(Generic[T]):
    """`parse` raises `ValueError` for what is not `allowed`; `default` is shown as `shown`."""

    name: str
    about: str
    allowed: str
    default: T
    shown: str
    parse: Callable[[str], T]

    def read(self, environment: Environment) -> T:
        """Its value. Raises `ConfigurationError` naming the variable."""
        text = environment.get(self.name)
        if not text:
            return self.default
        try:
            return self.parse(text)
        except ValueError as error:
            raise ConfigurationError(f"{self.name}={text!r}: must be {self.allowed}") from error


@dataclass(frozen=True)
class Secret:
    """Stands in the variable, or in the file that the variable with `_FILE` at its end names."""

    name: str
    about: str

    def read(self, environment: Environment) -> str | None:
        """None when it is not set. Raises `ConfigurationError` when its file cannot be read."""
        path = environment.get(f"{self.name}_FILE")
        if not path:
            return environment.get(self.name) or None
        try:
            return Path(path).read_text().strip() or None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{self.name}_FILE={path!r}: {error}") from error


def text(name: str, default: str, about: str) -> Variable[str]:
    """Anything."""
    return Variable(name, about, "text", default, f"`{default}`", str)


def optional(name: str, about: str, without: str) -> Variable[str | None]:
    """Anything, or None. `without`: what happens then."""
    return Variable(name, about, "text", None, without, str)


def number(name: str, default: int, lowest: int, highest: int, about: str) -> Variable[int]:
    """A whole number from `lowest` to `highest`."""

    def parse(given: str) -> int:
        value = int(given)
        if not lowest <= value <= highest:
            raise ValueError(given)
        return value

    allowed = f"a whole number from {lowest} to {highest}"
    return Variable(name, about, allowed, default, f"`{default}`", parse)


def flag(name: str, about: str) -> Variable[bool]:
    """1 or 0; off by default."""

    def parse(given: str) -> bool:
        return bool(("0", "1").index(given))

    return Variable(name, about, "1 or 0", False, "`0`", parse)


def choice(name: str, choices: tuple[str, ...], about: str) -> Variable[str]:
    """One of `choices`; the first one by default."""

    def parse(given: str) -> str:
        return choices[choices.index(given)]

    return Variable(name, about, " or ".join(choices), choices[0], f"`{choices[0]}`", parse)
