"""Finding and ending the processes of a system.

Every process of a system has the system's token in its environment, also when the process manager
has exited. So nothing here can affect another process, even when a process id was reused.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterable

import psutil

TOKEN = "POSTJOURNAL_SYSTEM"
GROUP = "SUPERVISOR_GROUP_NAME"  # set by supervisord
KILL_TIMEOUT_S = 5


def of_system(token: str) -> list[psutil.Process]:
    """Return the running processes of the system with this token."""
    return [
        process for process in psutil.process_iter() if _environment(process).get(TOKEN) == token
    ]


def of_group(processes: Iterable[psutil.Process], group: str) -> list[psutil.Process]:
    """Return the processes that run in a supervisord group."""
    return [process for process in processes if _environment(process).get(GROUP) == group]


def has_manager(system: Iterable[psutil.Process]) -> bool:
    """Whether supervisord, which runs in no group, is one of the system's processes."""
    return any(TOKEN in (found := _environment(p)) and GROUP not in found for p in system)


def is_paused(pid: int) -> bool:
    """Whether the process is stopped by a signal."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False


def age_s(pid: int) -> float:
    """Return the time since the process started; 0 when it has exited."""
    try:
        return time.time() - psutil.Process(pid).create_time()
    except psutil.Error:
        return 0.0


def is_shell(pid: int) -> bool:
    """Whether the process is still the shell that delays a restart."""
    try:
        return bool(psutil.Process(pid).name() == "sh")
    except psutil.Error:
        return False


def send_signal(pid: int, number: signal.Signals, token: str) -> bool:
    """Send a signal to a process of the system; whether there was a running one with this pid."""
    try:
        process = psutil.Process(pid)
        if _environment(process).get(TOKEN) != token:
            return False
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return False
    return True


def resume(processes: Iterable[psutil.Process]) -> None:
    """Send SIGCONT: a paused process does not handle SIGTERM."""
    _for_all(processes, psutil.Process.resume)


def end(processes: list[psutil.Process], timeout_s: float) -> None:
    """Send SIGTERM, and after `timeout_s` SIGKILL to those that still run."""
    _for_all(processes, psutil.Process.terminate)
    _, alive = psutil.wait_procs(processes, timeout=timeout_s)
    _for_all(alive, psutil.Process.kill)
    psutil.wait_procs(alive, timeout=KILL_TIMEOUT_S)


def _for_all(processes: Iterable[psutil.Process], act: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            act(process)


def _environment(process: psutil.Process) -> dict[str, str]:
    """Empty for zombies and for the processes of other users."""
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}
