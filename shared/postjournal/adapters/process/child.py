"""What a forked child does first: let go of its parent's things, but not outlive it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Collection

PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def close_all_but(keep: Collection[int]) -> None:
    """A socket that a child kept open would keep a killed parent's peers from noticing."""
    low = 0
    for descriptor in (*sorted(keep), os.sysconf("SC_OPEN_MAX")):
        if low < descriptor:  # CPython closes everything for (0, 0)
            os.closerange(low, descriptor)
        low = descriptor + 1


def die_with_parent(parent: int) -> None:
    """On Linux with the thread that forked, at once; elsewhere only if it is dead already."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
