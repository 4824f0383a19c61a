"""One child process of a replica, and how it ended."""

from __future__ import annotations

import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import BinaryIO, NamedTuple

from postjournal.adapters.process import death_lock
from postjournal.adapters.process.death_lock import DeathLock
from postjournal.core.state.apply_guard import NONE

LAST_WORDS_BYTES = 2_000

MARK = struct.Struct("q")
"""At the beginning of the file for the last words: see `ApplyGuard`."""


class Inherited(NamedTuple):
    """What a child finds in its arguments: `Child` writes them, `inherited` reads them.

    `channel`: descriptor of its end; `lock`: of its death lock, -1 without; `words`: of the file
    for its last words; `parent`: pid.
    """

    channel: int
    lock: int
    words: int
    parent: int


def inherited(arguments: Sequence[str]) -> tuple[Inherited, list[str]]:
    """What the parent passed on, and the other arguments."""
    count = len(Inherited._fields)
    return Inherited(*map(int, arguments[:count])), list(arguments[count:])


def mark_in(words: int) -> memoryview[int]:
    """The mark for `ApplyGuard` in the file of the last words, which outlives the process."""
    return memoryview(mmap.mmap(words, MARK.size)).cast("q")


class End(NamedTuple):
    """How a process ended. `cause`: a signal's name or exit_N; `text`: with all that is known.

    `applying`: the offset of the journal's record that it was applying, -1: none.
    """

    cause: str
    code: int
    text: str
    applying: int = NONE


class Child:
    """A started process.

    `connected`: this end of its channel.
    """

    def __init__(self, command: tuple[str, ...], keep: tuple[int, ...] = ()) -> None:
        """Start `python -m`: `command` is the module and its arguments, after its `Inherited`.

        `keep`: descriptors that it keeps. Raises OSError when the system has no process, memory
        or descriptor left.
        """
        module, *arguments = command
        self.connected, theirs = socket.socketpair()
        self._words: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115
        os.write(self._words.fileno(), MARK.pack(NONE))  # the child writes behind it
        self._lock = DeathLock() if death_lock.is_supported else None
        passed = Inherited(
            theirs.fileno(),
            self._lock.descriptor if self._lock else -1,
            self._words.fileno(),
            os.getpid(),
        )
        descriptors = [number for number in passed[:3] if number >= 0]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *map(str, passed), *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=(*descriptors, *keep),
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def take_lock(self) -> DeathLock | None:
        """Its death lock, for one caller to wait for and to close; None where there is none."""
        lock, self._lock = self._lock, None
        return lock

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal; also to a process that has ended and is not reaped yet."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def reap(self) -> End | None:
        """How it ended, or None while it runs. Call it once more at most after it has ended."""
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if pid == 0:
            return None
        lock = self.take_lock()
        if lock is not None:
            lock.close()
        code = self._process.returncode = os.waitstatus_to_exitcode(status)
        cause = signal.Signals(-code).name if code < 0 else f"exit_{code}"
        how = f"killed by {cause}" if code < 0 else f"exit code {code}"
        memory = usage.ru_maxrss // (1024 if sys.platform == "linux" else 1024**2)
        self._words.seek(0)
        (applying,) = MARK.unpack(self._words.read(MARK.size))
        words = self._last_words()
        text = f"{how}, at most {memory} MiB" + (f": {words}" if words else "")
        if applying != NONE:
            text += f"; it was applying the journal's record at offset {applying}"
        return End(cause, code, text, applying)

    def _last_words(self) -> str:
        size = self._words.seek(0, os.SEEK_END)
        self._words.seek(max(size - LAST_WORDS_BYTES, MARK.size))
        lines = self._words.read().decode(errors="replace").splitlines()
        self._words.close()
        return " | ".join(line.strip() for line in lines if line.strip())
