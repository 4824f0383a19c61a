"""Writing down a large state while it goes on changing: in a forked child, as Redis does it.

The child has the memory of the instant of the fork, shared with its parent until one of them
writes to it. It must touch nothing else of its parent's: no thread of it but the forking one
exists there, and every socket that it kept open would keep a killed parent's peers from noticing.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from threading import Lock

import msgspec

from postjournal.adapters.process.child import close_all_but, die_with_parent
from postjournal.recovery import codec as snapshot_codec

NICE = 15
"""The engines on the same machine come first."""

READ_BYTES = 1 << 20
PIPE_BYTES = 1 << 20


class ChildFailed(Exception):
    """The child ended before it had written everything; the message says why."""


class _Report(msgspec.Struct):
    content_size: int = 0
    error: str | None = None


@dataclass(frozen=True)
class _Ends:
    """What of the two pipes belongs to whom."""

    data_out: int
    data_in: int
    report_out: int
    report_in: int

    @classmethod
    def make(cls) -> _Ends:
        data_out, data_in = os.pipe()
        report_out, report_in = os.pipe()
        _widen(data_in)
        return cls(data_out, data_in, report_out, report_in)


class ForkedWriter:
    """One child that writes `content`, compressed, into a pipe."""

    def __init__(self, content: Callable[[], Iterable[bytes]]) -> None:
        """Forks at once; raises OSError. `content` is called in the child only.

        The caller's thread must live on: the child dies with it.
        """
        ends, parent = _Ends.make(), os.getpid()
        self._lock = Lock()
        self._is_reaped = False
        try:
            self._pid = os.fork()
        except OSError:
            for end in (ends.data_out, ends.data_in, ends.report_out, ends.report_in):
                os.close(end)
            raise
        if self._pid == 0:
            _live(parent, ends, content)
        os.close(ends.data_in)
        os.close(ends.report_in)
        self._data, self._report = ends.data_out, ends.report_out
        self.content_size = 0

    def chunks(self) -> Iterator[bytes]:
        """What the child writes; `content_size` is known afterwards. Raises `ChildFailed`."""
        while chunk := os.read(self._data, READ_BYTES):
            yield chunk
        report = self._reap()
        if report.error is not None:
            raise ChildFailed(report.error)
        self.content_size = report.content_size

    def kill(self) -> None:
        """End the child, if it still lives. Safe from any thread."""
        with self._lock, contextlib.suppress(ProcessLookupError):
            if not self._is_reaped:
                os.kill(self._pid, signal.SIGKILL)

    def close(self) -> None:
        """Let go of child and pipes; call it once, when nobody reads `chunks` any more."""
        self.kill()
        self._reap()
        os.close(self._data)
        os.close(self._report)

    def _reap(self) -> _Report:
        with self._lock:
            if self._is_reaped:
                return _Report()
        os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)  # its id stays its own till then
        with self._lock:
            _, status = os.waitpid(self._pid, 0)
            self._is_reaped = True
        said = b"".join(iter(lambda: os.read(self._report, 65_536), b""))
        try:
            report = msgspec.json.decode(said, type=_Report)
        except msgspec.DecodeError:
            report = _Report(error=f"the writing child ended with status {status}")
        return report


def _widen(pipe: int) -> None:
    """So that the child need not wait for each 64 kB; as much as it is allowed to be."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


# --- the child -----------------------------------------------------------------------------------


def _live(parent: int, ends: _Ends, content: Callable[[], Iterable[bytes]]) -> None:
    """All of the child's life; never returns."""
    report = _Report(error="it did not get to its end")
    try:
        _detach(parent, (ends.data_in, ends.report_in))
        report = _Report(content_size=_write(ends.data_in, content()))
    except BaseException as error:  # noqa: BLE001 - there is nobody else to tell
        report = _Report(error=f"{type(error).__name__}: {error}"[:1_000])
    finally:
        with contextlib.suppress(BaseException):
            os.write(ends.report_in, msgspec.json.encode(report))
        os._exit(0 if report.error is None else 1)


def _detach(parent: int, keep: tuple[int, int]) -> None:
    """Leave everything of the parent's alone, and do not outlive it."""
    gc.disable()  # a collection would write to all memory, and finalize what is not ours
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    close_all_but(keep)
    die_with_parent(parent)
    if sys.platform == "linux":
        _be_killed_first()
    os.nice(NICE)


def _be_killed_first() -> None:
    """Where memory runs out, rather the snapshot than the replica."""
    with contextlib.suppress(OSError):
        descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(descriptor, b"1000")
        os.close(descriptor)


def _write(pipe: int, content: Iterable[bytes]) -> int:
    """Returns the size of the content, uncompressed."""
    size = 0

    def counted() -> Iterator[bytes]:
        nonlocal size
        for piece in content:
            size += len(piece)
            yield piece

    for chunk in snapshot_codec.compress(counted()):
        left = memoryview(chunk)
        while left:
            left = left[os.write(pipe, left) :]
    return size
