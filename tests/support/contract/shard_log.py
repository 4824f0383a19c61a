"""A `ShardLog` under test, and the world around it that the tests need to reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from postjournal.core import messages as m
from postjournal.core.state.outbox import Outputs
from postjournal.ports import ShardLog

SOURCES = ("commands", "feed")
SINK = "results"


class Harness(Protocol):
    """What differs between the log in memory and the one on Kafka."""

    log: ShardLog
    timeout_ms: int  # how long something that must come may take
    quiet_ms: int  # how long to listen for what must not come

    def topic(self, source: str) -> str:
        """The name of a source's topic, as SourceRecords has it."""

    def feed(self, source: str, values: list[bytes]) -> None:
        """Records in a source."""

    def sink_seqs(self) -> list[int]:
        """The sequences in the topic of SINK, in order."""

    def trim(self, before: int) -> None:
        """Delete the journal's records before that offset."""

    def empty_sink(self) -> None:
        """Delete all records of SINK, as retention does."""

    def another(self) -> Harness:
        """Another log of the same shard, as another process has it."""

    def close(self) -> None:
        """Let go of everything."""


@dataclass
class Heard:
    """Everything that a log has said, sorted."""

    journal: list[tuple[int, bytes]] = field(default_factory=list)
    sources: dict[str, list[tuple[int, bytes | None]]] = field(default_factory=dict)
    landed: int = 0
    failures: list[m.Message] = field(default_factory=list)
    ends: list[int | None] = field(default_factory=list)
    end_tokens: list[object] = field(default_factory=list)  # of answers to questions
    tails: list[tuple[str, int]] = field(default_factory=list)
    published: list[tuple[str, int]] = field(default_factory=list)
    trimmed: int = 0

    def take(self, message: m.Message) -> None:
        """Sort one message."""
        if isinstance(message, m.JournalRecords):
            assert message.records, "a message says something"
            self.journal += message.records
        elif isinstance(message, m.SourceRecords):
            assert message.records, "a message says something"
            rows = [(offset, value) for offset, _, value in message.records]
            self.sources.setdefault(message.topic, []).extend(rows)
        elif isinstance(message, m.AppendAcknowledged):
            self.landed += message.count
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
    """Polls a log and keeps what it says in `heard`."""

    def __init__(self, harness: Harness) -> None:
        """Has heard nothing."""
        self._harness = harness
        self.heard = Heard()

    def forget(self) -> None:
        """Begin anew."""
        self.heard = Heard()

    def until(self, done: Callable[[Heard], bool]) -> Heard:
        """Listen until `done`; fail when it takes too long."""
        waited_ms = 0
        while not done(self.heard):
            assert waited_ms < self._harness.timeout_ms, f"it did not come: {self.heard}"
            waited_ms += self._turn()
        return self.heard

    def a_while(self) -> Heard:
        """Listen for a moment, for what must not come."""
        waited_ms = 0
        while waited_ms < self._harness.quiet_ms:
            waited_ms += self._turn()
        return self.heard

    def _turn(self) -> int:
        for message in self._harness.log.poll(10):
            self.heard.take(message)
        return 10


def values(count: int, first: int = 0) -> list[bytes]:
    return [f"v{number}".encode() for number in range(first, first + count)]


def rows(count: int, first: int = 0) -> list[tuple[int, bytes]]:
    return list(enumerate(values(count, first), first))


def outputs(first: int, end: int) -> Outputs:
    return Outputs(first, [b'{"seq":%d}' % seq for seq in range(first, end)])
