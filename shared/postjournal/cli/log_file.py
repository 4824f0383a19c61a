"""Reading log files that grow and are rotated."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

POLL_S = 0.2


class LogFile:
    """The log of one service; its lines are returned with `prefix` before each.

    The file is opened for each call and may be missing.
    """

    def __init__(self, path: Path, prefix: str) -> None:
        self._path, self._prefix = path, prefix
        self._inode, self._offset = 0, 0

    def tail(self, lines: int) -> list[str]:
        """Return the last `lines` lines; `read_new` continues after them."""
        new = self.read_new()
        return new[-lines:] if lines > 0 else []

    def read_new(self) -> list[str]:
        """Return the complete lines that were added since the last call."""
        try:
            with self._path.open("rb") as file:
                data = self._unread(file)
        except FileNotFoundError:
            return []
        complete = data[: data.rfind(b"\n") + 1]
        self._offset += len(complete)
        return [self._prefix + line for line in complete.decode(errors="replace").splitlines()]

    def _unread(self, file: BinaryIO) -> bytes:
        """Start over when the file is another one or shorter than before: it was rotated."""
        found = os.fstat(file.fileno())
        if found.st_ino != self._inode or found.st_size < self._offset:
            self._inode, self._offset = found.st_ino, 0
        file.seek(self._offset)
        return file.read()


def follow(files: list[LogFile], emit: Callable[[str], None]) -> None:
    """Pass each line that is added to the files to `emit`, indefinitely."""
    while True:
        for file in files:
            for line in file.read_new():
                emit(line)
        time.sleep(POLL_S)
