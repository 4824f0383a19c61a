"""The small process that holds a replica's end of the tripwire.

It ends with the replica, and springs the tripwire before: a replica with 1,000,000 accounts that
is killed has its own sockets closed 20-40 ms later, when the kernel has freed its memory.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading

from postjournal.adapters.process.child import close_all_but, die_with_parent
from postjournal.adapters.process.death_lock import DeathLock, is_supported
from postjournal.adapters.process.tripwire import TripwireServer

log = logging.getLogger(__name__)

STANDARD_STREAMS = (0, 1, 2)


def hold_tripwire(host: str, port: int) -> int:
    """Listen there until this process ends; the port. Port 0: any free one.

    Forks, so call it before there are threads, from the one that lives as long as the process.
    Raises OSError when the address is taken. Elsewhere than on Linux this process holds it.
    """
    listener = socket.create_server((host, port), backlog=128)
    port = listener.getsockname()[1]
    if not is_supported:
        TripwireServer(listener)
        return port
    death_lock, parent = DeathLock(), os.getpid()
    holder = os.fork()
    if holder == 0:
        _hold(listener, death_lock, parent)
    listener.close()
    threading.Thread(target=_miss, args=(holder,), daemon=True, name="tripwire-holder").start()
    return port


def _miss(holder: int) -> None:
    """Without it the standbys take this replica for dead, and so it had better be."""
    _, status = os.waitpid(holder, 0)
    log.critical("the process that holds the tripwire has ended (status %d): so do I", status)
    os._exit(1)


def _hold(listener: socket.socket, death_lock: DeathLock, parent: int) -> None:
    """All of the holder's life; never returns."""
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # it is for the replica to resign first
        close_all_but((*STANDARD_STREAMS, listener.fileno()))
        die_with_parent(parent)  # should the lock fail
        server = TripwireServer(listener)
        death_lock.wait()
        server.close()
    except BaseException:
        log.exception("the tripwire cannot be held")
        os._exit(1)
    os._exit(0)
