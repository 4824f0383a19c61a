"""SINK=results: prints each result as one line of JSON on stdout."""

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
    """The part of `Subscription` that the printer uses."""

    def poll(self, timeout_s: float) -> list[Received]:
        """The next outputs, at most after `timeout_s`."""

    def commit(self) -> None:
        """Commit the positions after the polled outputs. Raises `JournalUnavailable`."""


class ResultsPrinter:
    """Prints lines, then commits: a process killed in between prints them again after its restart.

    The `seq` of a line shows the repetition. Exactly-once needs a consumer that stores the position
    together with the effect, which a terminal cannot do.
    """

    def __init__(self, source: Source, out: BinaryIO) -> None:
        self._source, self._out = source, out
        self._outage = Outage("positions of the results", log)

    def run(self, stop: Event) -> None:
        """Run until `stop` is set. Raises `SequenceGap`."""
        while not stop.is_set():
            self.step(POLL_S)

    def step(self, timeout_s: float) -> None:
        """Print one batch. The next commit also covers one that fails."""
        for result in self._source.poll(timeout_s):
            self._out.write(result.value + b"\n")
        self._out.flush()
        try:
            self._source.commit()
        except JournalUnavailable as error:
            self._outage.begin(str(error))
        else:
            self._outage.end()
