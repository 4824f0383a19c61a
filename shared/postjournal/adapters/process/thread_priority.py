"""A higher scheduling priority for a busy engine, where the system allows it."""

from __future__ import annotations

import os
import sys

NICE = -10
"""Without it, on two cores, a leader at full speed waits an eighth of its time for a core, behind
threads that have little to do: its own clients', the broker's, the standbys'."""

ORDINARY = 0

THIS_THREAD = 0


class ThreadPriority:
    """The priority of the thread that makes it, and that alone may switch it.

    Not permanently on, since an engine that has little to do waits for the other threads.
    """

    def __init__(self) -> None:
        """Starts switched off; threads and processes that this thread makes never inherit it."""
        self._is_on = False
        self.is_allowed = _is_allowed()

    def switch(self, *, on: bool) -> None:
        """Turn the priority on or off; cheap when nothing changes."""
        if on is not self._is_on and self.is_allowed:
            self._is_on = on
            os.setpriority(os.PRIO_PROCESS, THIS_THREAD, NICE if on else ORDINARY)


def _is_allowed() -> bool:
    """On Linux, for root and where RLIMIT_NICE permits it (setrlimit(2))."""
    if sys.platform != "linux" or os.getpriority(os.PRIO_PROCESS, THIS_THREAD) != ORDINARY:
        return False  # elsewhere it is the whole process's; one that is set already is kept
    try:
        policy = os.SCHED_OTHER | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(THIS_THREAD, policy, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, THIS_THREAD, NICE)
    except OSError:
        return False
    os.setpriority(os.PRIO_PROCESS, THIS_THREAD, ORDINARY)
    return True
