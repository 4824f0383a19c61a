"""A busy engine before all other threads of the machine, where that is allowed."""

from __future__ import annotations

import os
import sys

NICE = -10
"""On two cores a leader at full speed otherwise waits an eighth of its time for a core, behind
threads that have little to do: its own clients', the broker's, the standbys'."""

ORDINARY = 0

THIS_THREAD = 0


class ThreadPriority:
    """Of the thread that makes it, which only that one may switch.

    Not always, since an engine that has little to do waits for those very threads.
    """

    def __init__(self) -> None:
        """None yet. What the thread starts or forks from now on never has it."""
        self._is_on = False
        self.is_allowed = _is_allowed()

    def switch(self, *, on: bool) -> None:
        """Costs next to nothing when nothing changes."""
        if on is not self._is_on and self.is_allowed:
            self._is_on = on
            os.setpriority(os.PRIO_PROCESS, THIS_THREAD, NICE if on else ORDINARY)


def _is_allowed() -> bool:
    """On Linux, to root and to whom RLIMIT_NICE allows it (setrlimit(2))."""
    if sys.platform != "linux" or os.getpriority(os.PRIO_PROCESS, THIS_THREAD) != ORDINARY:
        return False  # elsewhere it is the whole process's; and whoever has set it knows why
    try:
        policy = os.SCHED_OTHER | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(THIS_THREAD, policy, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, THIS_THREAD, NICE)
    except OSError:
        return False
    os.setpriority(os.PRIO_PROCESS, THIS_THREAD, ORDINARY)
    return True
