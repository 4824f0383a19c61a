"""What a forked child does first: close its parent's files, and arrange not to outlive it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Collection

PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def close_all_but(keep: Collection[int]) -> None:
    """Close all file descriptors except `keep`.

    A socket that a child keeps open hides a killed parent's death from the parent's peers.
    """
    low = 0
    for descriptor in (*sorted(keep), os.sysconf("SC_OPEN_MAX")):
        if low < descriptor:  # CPython closes everything for (0, 0)
            os.closerange(low, descriptor)
        low = descriptor + 1


def die_with_parent(parent: int) -> None:
    """Exit when `parent` is dead already; on Linux also die with the thread that forked."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
