"""SINK=results: each result as a line of JSON on the standard output."""

from __future__ import annotations

import logging
from threading import Event
from typing import BinaryIO, Protocol

from postjournal.adapters.outage import Outage
from postjournal.core.errors import JournalUnavailable
from postjournal.core.sequence import Received

log = logging.getLogger(__name__)

POLL_S = 0.5


class Source(Protocol):
    """What the printer needs of a `Subscription`."""

    def poll(self, timeout_s: float) -> list[Received]:
        """The next outputs; waits up to `timeout_s` seconds for the first."""

    def commit(self) -> None:
        """Save the positions after all outputs so far. Raises `JournalUnavailable`."""


class ResultsPrinter:
    """Prints lines, then commits: a process killed in between prints them again after its restart.

    The line's `seq` shows the repetition. Exactly-once needs a store for position and effect
    together, which a terminal is not.
    """

    def __init__(self, source: Source, out: BinaryIO) -> None:
        """`out`: receives the lines."""
        self._source, self._out = source, out
        self._outage = Outage("positions of the results", log)

    def run(self, stop: Event) -> None:
        """Run until `stop` is set. Raises `SequenceGap`."""
        while not stop.is_set():
            self.step(POLL_S)

    def step(self, timeout_s: float) -> None:
        """Process one batch. A commit that fails is covered by the next one."""
        for result in self._source.poll(timeout_s):
            self._out.write(result.value + b"\n")
        self._out.flush()
        try:
            self._source.commit()
        except JournalUnavailable as error:
            self._outage.start(str(error))
        else:
            self._outage.end()
