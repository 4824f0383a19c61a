"""Writing a large state while it changes: in a forked child, as Redis does it.

The child has the memory of the instant of the fork, shared with its parent until one of them
writes to it. It must use nothing else of its parent's: of the parent's threads only the forking
one exists in the child, and every socket that the child keeps open hides a killed parent's death
from the parent's peers.
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
"""The engines on the same machine have priority."""

READ_BYTES = 1 << 20
PIPE_BYTES = 1 << 20


class ChildFailed(Exception):
    """The child exited before it had written everything; the message is the reason."""


class _Report(msgspec.Struct):
    content_size: int = 0
    error: str | None = None


@dataclass(frozen=True)
class _Ends:
    """The ends of the two pipes: the child writes to `_in`, the parent reads from `_out`."""

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
        """Forks; raises OSError. `content` is called in the child only.

        The calling thread must stay alive: the child dies with it.
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
            _run_child(parent, ends, content)
        os.close(ends.data_in)
        os.close(ends.report_in)
        self._data, self._report = ends.data_out, ends.report_out
        self.content_size = 0

    def chunks(self) -> Iterator[bytes]:
        """What the child writes; afterwards `content_size` is set. Raises `ChildFailed`."""
        while chunk := os.read(self._data, READ_BYTES):
            yield chunk
        report = self._reap()
        if report.error is not None:
            raise ChildFailed(report.error)
        self.content_size = report.content_size

    def kill(self) -> None:
        """Kill the child, if it is still running. Safe from any thread."""
        with self._lock, contextlib.suppress(ProcessLookupError):
            if not self._is_reaped:
                os.kill(self._pid, signal.SIGKILL)

    def close(self) -> None:
        """End the child and close the pipes; call it once, when `chunks` is no longer read."""
        self.kill()
        self._reap()
        os.close(self._data)
        os.close(self._report)

    def _reap(self) -> _Report:
        with self._lock:
            if self._is_reaped:
                return _Report()
        os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)  # the pid is not reused
        with self._lock:
            _, status = os.waitpid(self._pid, 0)
            self._is_reaped = True
        output = b"".join(iter(lambda: os.read(self._report, 65_536), b""))
        try:
            report = msgspec.json.decode(output, type=_Report)
        except msgspec.DecodeError:
            report = _Report(error=f"the writing child exited with status {status}")
        return report


def _widen(pipe: int) -> None:
    """Enlarge the pipe, if allowed, so that the child does not wait after every 64 kB."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


# --- the child -----------------------------------------------------------------------------------


def _run_child(parent: int, ends: _Ends, content: Callable[[], Iterable[bytes]]) -> None:
    """The child's main function; never returns."""
    report = _Report(error="the child did not finish")
    try:
        _detach(parent, (ends.data_in, ends.report_in))
        report = _Report(content_size=_write(ends.data_in, content()))
    except BaseException as error:  # noqa: BLE001 - the report is the only way out
        report = _Report(error=f"{type(error).__name__}: {error}"[:1_000])
    finally:
        with contextlib.suppress(BaseException):
            os.write(ends.report_in, msgspec.json.encode(report))
        os._exit(0 if report.error is None else 1)


def _detach(parent: int, keep: tuple[int, int]) -> None:
    """Separate the child from the parent's signals, files and life."""
    gc.disable()  # a collection would write to all memory, and finalize the parent's objects
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    close_all_but(keep)
    die_with_parent(parent)
    if sys.platform == "linux":
        _prefer_as_oom_victim()
    os.nice(NICE)


def _prefer_as_oom_victim() -> None:
    """When memory runs out, the kernel must kill the snapshot rather than the replica."""
    with contextlib.suppress(OSError):
        descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(descriptor, b"1000")
        os.close(descriptor)


def _write(pipe: int, content: Iterable[bytes]) -> int:
    """Write `content` compressed; returns its uncompressed size in bytes."""
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
