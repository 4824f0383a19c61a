"""Waiting for a condition, with a timeout and a reason when it expires."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from postjournal.cli.errors import OperationFailed

T = TypeVar("T")


def wait_for(
    find: Callable[[], T | None],
    failure: Callable[[], str],
    timeout_s: float,
    *,
    poll_s: float = 0.1,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Call `find` until it returns something true, and return that.

    Raises `OperationFailed` with the text of `failure` after `timeout_s` seconds.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        found = find()
        if found:
            return found
        if time.monotonic() > deadline:
            raise OperationFailed(f"{failure()} after {timeout_s:g} s")
        sleep(poll_s)
