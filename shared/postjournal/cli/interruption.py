"""Signals that end a command: it stops what it started, whichever signal arrives."""

from __future__ import annotations

import os
import signal
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

TERMINATION_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
"""Besides SIGINT, for which Python raises `KeyboardInterrupt` already."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `KeyboardInterrupt` on SIGTERM and SIGHUP (the terminal was closed) as on Ctrl-C.

    Only the first signal raises: a shell that hangs up sends a second SIGHUP at once, which must
    not interrupt the cleanup. A signal that is ignored from the start (`nohup`) stays ignored.
    """
    if not _in_main_thread():
        yield
        return
    caught = not_ignored(TERMINATION_SIGNALS)

    def interrupt(received: int, _frame: FrameType | None) -> NoReturn:
        for number in caught:
            signal.signal(number, signal.SIG_IGN)
        if received == signal.SIGHUP:
            _discard_terminal_output()
        raise KeyboardInterrupt

    with handlers(caught, interrupt):
        yield


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C, SIGTERM and SIGHUP: a second Ctrl-C must not leave processes behind."""
    if not _in_main_thread():
        yield
        return
    with handlers([signal.SIGINT, *TERMINATION_SIGNALS], signal.SIG_IGN):
        yield


def not_ignored(numbers: Iterable[signal.Signals]) -> list[signal.Signals]:
    """Return the signals that are not ignored, as `nohup` ignores SIGHUP."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def handlers(
    numbers: Sequence[signal.Signals],
    handler: Callable[[int, FrameType | None], Any] | signal.Handlers,
) -> Iterator[None]:
    """Set the handler of the signals `numbers` inside the block."""
    previous = [signal.signal(number, handler) for number in numbers]
    try:
        yield
    finally:
        for number, restored in zip(numbers, previous, strict=True):
            signal.signal(number, restored)


def _in_main_thread() -> bool:
    """Python runs signal handlers in the main thread only."""
    return threading.current_thread() is threading.main_thread()


def _discard_terminal_output() -> None:
    """Redirect stdout and stderr to /dev/null, unless they are files.

    Writing to a terminal that was closed raises `OSError`, and the cleanup prints first.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    for output in (1, 2):
        with suppress(OSError):  # it was closed from the start
            if not stat.S_ISREG(os.fstat(output).st_mode):
                os.dup2(null, output)
    os.close(null)
