"""A full disk for single processes.

A disk that is really full needs a file system of its own, and thereby root. For the writing
process a limit on the size of files looks the same: a part is written, the rest is an OSError.
"""

from __future__ import annotations

import contextlib
import sys

import psutil

from postjournal.cli.errors import OperationFailed

FULL_BYTES = 4_096


def fill(pid: int) -> None:
    """Limit every file that the process writes to `FULL_BYTES`; ignore one that has exited.

    Raises `OperationFailed` on platforms that cannot limit another process.
    """
    _limit(pid, FULL_BYTES)


def free(pid: int) -> None:
    """Remove the limit that `fill` has set."""
    _limit(pid, None)


def _limit(pid: int, size_bytes: int | None) -> None:
    if sys.platform != "linux":
        raise OperationFailed("only Linux can limit the file sizes of a running process")
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        _, hard = process.rlimit(psutil.RLIMIT_FSIZE)
        limit = hard if size_bytes is None else size_bytes
        process.rlimit(psutil.RLIMIT_FSIZE, (limit, hard))
