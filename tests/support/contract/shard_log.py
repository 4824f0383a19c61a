"""A `ShardLog` under test and its topics, and a listener to what it delivers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from postjournal.core import messages as m
from postjournal.core.state.outbox import Outputs
from postjournal.ports import ShardLog

SOURCES = ("commands", "feed")
SINK = "results"


class LogUnderTest(Protocol):
    """What differs between the simulated log and the one on Kafka."""

    log: ShardLog
    timeout_ms: int  # how long to wait for a message that must arrive
    quiet_ms: int  # how long to listen for a message that must not arrive

    def topic(self, source: str) -> str:
        """The topic of a source, as in `SourceRecords`."""

    def feed(self, source: str, values: list[bytes]) -> None:
        """Produce records to a source."""

    def sink_seqs(self) -> list[int]:
        """The sequences in the topic of SINK, in order."""

    def trim(self, before: int) -> None:
        """Delete the journal's records before an offset."""

    def empty_sink(self) -> None:
        """Delete all records of SINK, as retention does."""

    def another(self) -> LogUnderTest:
        """A log of the same shard as in another process."""

    def close(self) -> None:
        """Close the log and those made by `another`."""


@dataclass
class Received:
    """Everything that a log has delivered, by kind."""

    journal: list[tuple[int, bytes]] = field(default_factory=list)
    sources: dict[str, list[tuple[int, bytes | None]]] = field(default_factory=dict)
    acknowledged: int = 0
    failures: list[m.Message] = field(default_factory=list)
    ends: list[int | None] = field(default_factory=list)
    end_tokens: list[object] = field(default_factory=list)  # of answered probes
    tails: list[tuple[str, int]] = field(default_factory=list)
    published: list[tuple[str, int]] = field(default_factory=list)
    trimmed: int = 0

    def take(self, message: m.Message) -> None:
        if isinstance(message, m.JournalRecords):
            assert message.records, "a message has records"
            self.journal += message.records
        elif isinstance(message, m.SourceRecords):
            assert message.records, "a message has records"
            rows = [(offset, value) for offset, _, value in message.records]
            self.sources.setdefault(message.topic, []).extend(rows)
        elif isinstance(message, m.AppendAcknowledged):
            self.acknowledged += message.count
        elif isinstance(message, m.JournalEnd):
            self.ends.append(message.end)
            self.end_tokens += [] if message.token is None else [message.token]
        elif isinstance(message, m.SinkTail):
            self.tails.append((message.sink, message.next_seq))
        elif isinstance(message, m.Published):
            self.published.append((message.sink, message.next_seq))
        elif isinstance(message, m.JournalTrimmed):
            self.trimmed += 1
        else:
            self.failures.append(message)


class Listener:
    """Polls a log and collects what it delivers in `received`."""

    def __init__(self, under_test: LogUnderTest) -> None:
        self._under_test = under_test
        self.received = Received()

    def reset(self) -> None:
        """Discard what was received."""
        self.received = Received()

    def until(self, done: Callable[[Received], bool]) -> Received:
        """Poll until `done`; fail after the timeout."""
        waited_ms = 0
        while not done(self.received):
            assert waited_ms < self._under_test.timeout_ms, f"not received: {self.received}"
            waited_ms += self._poll()
        return self.received

    def listen_briefly(self) -> Received:
        """Poll for a moment, to receive what must not arrive."""
        return self.listen(self._under_test.quiet_ms)

    def listen(self, time_ms: int) -> Received:
        """Poll for `time_ms` at most."""
        waited_ms = 0
        while waited_ms < time_ms:
            waited_ms += self._poll()
        return self.received

    def _poll(self) -> int:
        for message in self._under_test.log.poll(10):
            self.received.take(message)
        return 10


def values(count: int, first: int = 0) -> list[bytes]:
    return [f"v{number}".encode() for number in range(first, first + count)]


def rows(count: int, first: int = 0) -> list[tuple[int, bytes]]:
    return list(enumerate(values(count, first), first))


def outputs(first: int, end: int) -> Outputs:
    return Outputs(first, [b'{"seq":%d}' % seq for seq in range(first, end)])
