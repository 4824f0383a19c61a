"""Progress on stderr: one line that changes on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.live import Live
from rich.status import Status

_console = Console(stderr=True, highlight=False)
_status: list[Status] = []


def print_line(text: str, *, markup: bool = False) -> None:
    """Print a permanent line. `markup`: square brackets are rich's markup."""
    _console.print(text, markup=markup, soft_wrap=True)


def show_status(text: str) -> None:
    """Replace the text of the current step; only a terminal shows it."""
    if _status:
        _status[-1].update(text)


def is_terminal() -> bool:
    """Whether stderr is a terminal, so that a live display can be drawn."""
    return _console.is_terminal


@contextmanager
def step(text: str) -> Iterator[None]:
    """Print what begins; on a terminal with a spinner until it ends."""
    if not _console.is_terminal:
        print_line(text)
        yield
        return
    with _console.status(text) as status:
        _status.append(status)
        try:
            yield
        finally:
            _status.pop()


@contextmanager
def live_display(
    render: Callable[[], RenderableType], per_second: float, *, transient: bool = False
) -> Iterator[None]:
    """Draw what `render` returns below the printed lines, on a terminal only.

    `transient`: nothing of it stays at the end.
    """
    if not _console.is_terminal:
        yield
        return
    with Live(
        console=_console,
        get_renderable=render,
        refresh_per_second=per_second,
        transient=transient,
    ):
        yield


def check_mark(ok: bool) -> str:
    """A green check mark or a red cross, in rich's markup."""
    return "[green]✔[/]" if ok else "[red]✘[/]"
