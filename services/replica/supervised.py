"""A process that runs until the replica stops: it is restarted when it ends, ended when stuck."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any, Protocol

import msgspec

from postjournal.adapters.process.channel import Channel
from postjournal.adapters.process.thread_priority import ThreadPriority
from services.process import EXIT_CONFIGURATION
from services.replica.child import Child, End

log = logging.getLogger(__name__)

STUCK_S = 10.0
"""A process of which nothing was heard for this long is ended; they report once a second."""

START_S = 120.0
"""The same until the first report: without Kafka, each client of an engine waits at the start."""

WORDS_S = 0.5
"""The time to write a stack trace, for a process that is ended because it is stuck."""

FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.1, 10.0
SETTLED_S = 60.0
"""A process that has run for this long is restarted without a longer wait than the first time."""


class Owner(Protocol):
    """What happens to the process; all calls are made by the event loop."""

    def on_started(self) -> None:
        """It was started; the channel is open."""

    def on_message(self, message: Any) -> None:
        """It has sent a message."""

    def on_dead(self) -> None:
        """It is dead, or as good as that; called once for each start, as early as possible."""

    def on_ended(self, end: End) -> None:
        """It has ended; another one is started after a while unless the replica stops."""


class Supervised:
    """One process at a time.

    `is_stopping`: it is not to be started again; `pid`: None while there is none; `ends`: how often
    it ended, by cause; `last_end`: how it ended last, None: it never did.
    """

    def __init__(
        self,
        name: str,
        command: tuple[str, ...],
        incoming: Any,
        owner: Owner,
        keep: tuple[int, ...] = (),
    ) -> None:
        """`name`: in log lines; `command`, `keep`: see `Child`; `incoming`: see `Channel`."""
        self.name, self._command, self._keep = name, command, keep
        self._incoming, self._owner = incoming, owner
        self._child: Child | None = None
        self._channel: Channel | None = None
        self._is_dead = True
        self.is_stopping = False
        self._stuck_cause: str | None = None
        self._started_s = self._heard_s = 0.0
        self._has_reported = False
        self._backoff_s = FIRST_BACKOFF_S
        self.ends: Counter[str] = Counter()
        self.last_end: str | None = None

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    @property
    def silent_s(self) -> float:
        """How long nothing was heard of it."""
        return time.monotonic() - self._heard_s

    # --- start and end ----------------------------------------------------------------------

    def start(self) -> None:
        """Start it now; when the system cannot, later."""
        if self.is_stopping or self._child is not None:
            return
        try:
            child = Child(self._command, self._keep)
        except OSError as error:
            log.error("%s: cannot be started: %s; retrying", self.name, error)
            self._start_later()
            return
        self._child, self._is_dead, self._stuck_cause = child, False, None
        self._has_reported = False
        self._started_s = self._heard_s = time.monotonic()
        self._channel = Channel(
            child.connected, self._incoming, self._on_message, lambda: self._on_dead(child)
        )
        self._owner.on_started()

    def _start_later(self) -> None:
        asyncio.get_running_loop().call_later(self._backoff_s, self.start)
        self._backoff_s = min(self._backoff_s * 2, MAX_BACKOFF_S)

    def await_death(self) -> None:
        """Learn of the death from its lock, which it holds by now: that is the earliest.

        Only the first call for a process has an effect.
        """
        child, loop = self._child, asyncio.get_running_loop()
        lock = child.take_lock() if child is not None else None
        if child is None or lock is None:
            return

        def wait() -> None:
            ThreadPriority().switch(on=True)
            lock.wait()
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._on_dead, child)
            lock.close()

        threading.Thread(target=wait, daemon=True, name=f"death of {self.name}").start()

    def _on_dead(self, child: Child) -> None:
        if child is self._child and not self._is_dead:
            self._is_dead = True
            self._owner.on_dead()

    def reap(self) -> None:
        """Notice that it has ended: a child of this process did."""
        child = self._child
        end = child.reap() if child is not None else None
        if child is None or end is None:
            return
        self._on_dead(child)
        if self._stuck_cause is not None:
            end = end._replace(cause="stuck", text=f"{self._stuck_cause}; {end.text}")
        self._child = None
        if self._channel is not None:
            self._channel.close()
        is_expected = self.is_stopping and end.code == 0
        if not is_expected and end.code != EXIT_CONFIGURATION:  # which it has logged itself
            self.ends[end.cause] += 1
            self.last_end = end.text
            log.error("%s (pid %d) ended: %s", self.name, child.pid, end.text)
        if time.monotonic() - self._started_s >= SETTLED_S:
            self._backoff_s = FIRST_BACKOFF_S
        self._owner.on_ended(end)
        if not self.is_stopping:
            self._start_later()

    # --- messages ---------------------------------------------------------------------------

    def send(self, message: msgspec.Struct, descriptor: int | None = None) -> None:
        """Send, if it runs; see `Channel.send`."""
        if self._channel is not None:
            self._channel.send(message, descriptor)

    def _on_message(self, message: Any, descriptor: int | None) -> None:
        assert descriptor is None, "children send none"
        self._heard_s = time.monotonic()
        self._owner.on_message(message)

    def reported(self) -> None:
        """It has shown that it works; from now on it must do so again within `STUCK_S`."""
        self._has_reported = True

    def forgive(self) -> None:
        """The replica was paused as a whole: count its silence from now."""
        self._heard_s = time.monotonic()

    def end_if_stuck(self) -> None:
        """End it when it has not been heard for too long."""
        limit_s = STUCK_S if self._has_reported else START_S
        if self._child is None or self._stuck_cause is not None or self.silent_s < limit_s:
            return
        self._stuck_cause = f"stuck for {self.silent_s:.0f} s"
        log.error("%s (pid %d): %s; ending it", self.name, self._child.pid, self._stuck_cause)
        self._child.kill(signal.SIGABRT)  # writes its stack traces, if it can
        asyncio.get_running_loop().call_later(WORDS_S, self._child.kill)

    def kill(self) -> None:
        """End it at once."""
        if self._child is not None:
            self._child.kill()
