"""Reading log files that grow and are rotated."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

POLL_S = 0.2


class LogFile:
    """One service's log; every line is given with `prefix` before it."""

    def __init__(self, path: Path, prefix: str) -> None:
        """`past` or `fresh` read it; nothing is kept open in between."""
        self._path, self._prefix = path, prefix
        self._inode, self._offset = 0, 0

    def past(self, lines: int) -> list[str]:
        """The last `lines` lines; `fresh` goes on after them."""
        fresh = self.fresh()
        return fresh[-lines:] if lines > 0 else []

    def fresh(self) -> list[str]:
        """The whole lines that were added since the last call."""
        try:
            with self._path.open("rb") as file:
                data = self._unread(file)
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [self._prefix + line for line in whole.decode(errors="replace").splitlines()]

    def _unread(self, file: BinaryIO) -> bytes:
        """From the start again when the file is another one, or shorter: it was rotated."""
        found = os.fstat(file.fileno())
        if found.st_ino != self._inode or found.st_size < self._offset:
            self._inode, self._offset = found.st_ino, 0
        file.seek(self._offset)
        return file.read()


def follow(files: list[LogFile], emit: Callable[[str], None]) -> None:
    """Emit what is added to the files, for ever."""
    while True:
        for file in files:
            for line in file.fresh():
                emit(line)
        time.sleep(POLL_S)
