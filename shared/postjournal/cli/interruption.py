"""How a command ends early: it stops what it started, whichever signal asks it to."""

from __future__ import annotations

import os
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

ENDING = (signal.SIGTERM, signal.SIGHUP)
"""Besides SIGINT, which Python turns into `KeyboardInterrupt` by itself."""


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP (the terminal is closed) raise `KeyboardInterrupt` inside, as Ctrl-C does.

    The first one only: a shell that hangs up sends a second SIGHUP at once, which must not
    interrupt the stopping. One that is ignored, as `nohup` has it, stays ignored.
    """
    if not _in_main_thread():
        yield
        return
    caught = [each for each in ENDING if signal.getsignal(each) is not signal.SIG_IGN]

    def interrupt(number: int, _frame: FrameType | None) -> NoReturn:
        for each in caught:
            signal.signal(each, signal.SIG_IGN)
        if number == signal.SIGHUP:
            _say_nothing_more()
        raise KeyboardInterrupt

    handlers = [signal.signal(each, interrupt) for each in caught]
    try:
        yield
    finally:
        for each, handler in zip(caught, handlers, strict=True):
            signal.signal(each, handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """An impatient second Ctrl-C must not leave half of the processes behind."""
    if not _in_main_thread():
        yield
        return
    signals = (signal.SIGINT, *ENDING)
    handlers = [signal.signal(each, signal.SIG_IGN) for each in signals]
    try:
        yield
    finally:
        for each, handler in zip(signals, handlers, strict=True):
            signal.signal(each, handler)


def _in_main_thread() -> bool:
    """Only it gets signals."""
    return threading.current_thread() is threading.main_thread()


def _say_nothing_more() -> None:
    """A line for a terminal that is gone raises `OSError`, and stopping begins with one."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for output in (1, 2):
        with suppress(OSError):  # it was closed from the start
            if not stat.S_ISREG(os.fstat(output).st_mode):
                os.dup2(nowhere, output)
    os.close(nowhere)
