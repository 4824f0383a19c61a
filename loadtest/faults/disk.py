"""No room for files, for one process alone.

A full disk needs a file system of its own, and that needs root. To who writes, a limit on the
size of files looks the same: what was written so far is there, and the rest is an OSError.
"""

from __future__ import annotations

import contextlib
import sys

import psutil

from postjournal.cli.errors import OperationFailed

FULL_BYTES = 4_096


def fill(pid: int) -> None:
    """No file of the process can grow beyond some kB; one that is gone meanwhile is let be.

    Raises `OperationFailed` where there is no such limit on another process.
    """
    _limit(pid, FULL_BYTES)


def free(pid: int) -> None:
    """As much as the process may have."""
    _limit(pid, None)


def _limit(pid: int, size_bytes: int | None) -> None:
    if sys.platform != "linux":
        raise OperationFailed("only Linux can limit the files of a running process")
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        _, most = process.rlimit(psutil.RLIMIT_FSIZE)
        limit = most if size_bytes is None else size_bytes
        process.rlimit(psutil.RLIMIT_FSIZE, (limit, most))
