"""The engine's thread before all others of the machine, where that is allowed."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

NICE = -10
"""On two cores a leader's thread otherwise waits an eighth of its time for a core, behind threads
that have little to do: its own clients', the broker's, the standbys'."""


def take_precedence() -> bool:
    """For the calling thread, not for what it starts or forks. Returns whether that was allowed.

    It is on Linux, for root and for whom RLIMIT_NICE allows it (setrlimit(2)).
    """
    if sys.platform != "linux":
        return False  # it would be the whole process
    this_thread, ordinary = 0, os.sched_param(0)
    with suppress(OSError):
        os.sched_setscheduler(this_thread, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, ordinary)
        os.setpriority(os.PRIO_PROCESS, this_thread, NICE)
        return True
    return False
