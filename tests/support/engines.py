"""Engines in the test's own process."""

from __future__ import annotations

from collections.abc import Sequence

from postjournal.adapters.process.inbox import QueueInbox
from postjournal.adapters.process.wakeup import Wakeup
from postjournal.core import messages as m


class StubParent:
    """The parent of an engine without a replica around it; `reports`: its status records."""

    def __init__(self) -> None:
        self.wakeup = Wakeup()
        self.inbox = QueueInbox(self.wakeup)
        self.last_end: str | None = None
        self.reports: list[bytes] = []

    def begin(self, incarnation: str) -> None:
        pass

    def report(self, shard: int, record: bytes) -> None:
        self.reports.append(record)

    def watch(self, address: str, incarnation: str, epoch: int) -> None:
        pass

    def unwatch(self) -> None:
        pass

    def poll(self) -> Sequence[m.Message]:
        return ()
