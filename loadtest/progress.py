"""Progress on stderr: one line that changes on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status

_console = Console(stderr=True, highlight=False)
_status: list[Status] = []


def say(text: str, *, markup: bool = False) -> None:
    """A line that stays. `markup`: with colours in square brackets."""
    _console.print(text, markup=markup, soft_wrap=True)


def show(text: str) -> None:
    """What is going on now; only a terminal shows it."""
    if _status:
        _status[-1].update(text)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Says what begins; on a terminal with a spinner until it ends."""
    if not _console.is_terminal:
        say(text)
        yield
        return
    with _console.status(text) as status:
        _status.append(status)
        try:
            yield
        finally:
            _status.pop()
