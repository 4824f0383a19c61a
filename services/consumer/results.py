"""SINK=results: writes each result as a line of JSON to the standard output."""

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
        """Return the next outputs; wait up to `timeout_s` seconds for the first."""

    def commit(self) -> None:
        """Save the positions after all outputs so far. Raises `JournalUnavailable`."""


class ResultsPrinter:
    """Prints lines, then commits: a process killed in between prints them again after its restart.

    The `seq` of a line shows that it is repeated. Exactly-once needs a store that has the position
    together with the effect, which a terminal is not.
    """

    def __init__(self, source: Source, out: BinaryIO) -> None:
        self._source, self._out = source, out
        self._outage = Outage("positions of the results", log)

    def run(self, stop: Event) -> None:
        """Run until `stop` is set. Raises `SequenceGap` when the topic has lost results."""
        while not stop.is_set():
            self.step(POLL_S)

    def step(self, timeout_s: float) -> None:
        """Print one batch. The next commit also saves what a failed commit did not."""
        for result in self._source.poll(timeout_s):
            self._out.write(result.value + b"\n")
        self._out.flush()
        try:
            self._source.commit()
        except JournalUnavailable as error:
            self._outage.start(str(error))
        else:
            self._outage.end()
