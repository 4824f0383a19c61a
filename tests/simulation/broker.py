"""Kafka in memory: partitions are lists, consumers fetch from them with a delay."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from postjournal.core.records import SourceRecord
from postjournal.core.sequence import PartitionReader, Received

if TYPE_CHECKING:
    from tests.simulation.host import Host

T = TypeVar("T")

SOURCES = ("ledger.commands", "ledger.feed")
SINKS = ("results", "balances", "deadletter")
RESTART_EVERY = 5
"""After so many records a subscriber restarts from the position that it has saved."""


class Partition(Generic[T]):
    """An append-only list that notifies its watcher first and then its readers.

    Records before `begin` have been deleted. Until `stalled_until_us` no fetch returns: the
    partition's leader is being replaced.
    """

    __slots__ = ("begin", "readers", "records", "stalled_until_us", "watcher")

    def __init__(self, watcher: Callable[[int, T], None] | None = None) -> None:
        """`watcher(offset, record)` is called at the instant a record lands."""
        self.records: list[T] = []
        self.begin = 0
        self.stalled_until_us = 0
        self.readers: list[Reader[T]] = []
        self.watcher = watcher

    def trim(self, begin: int) -> None:
        """Delete the records before `begin`."""
        self.begin = max(self.begin, begin)

    def land(self, record: T) -> int:
        """Append and return the offset."""
        offset = len(self.records)
        self.records.append(record)
        if self.watcher is not None:
            self.watcher(offset, record)
        for reader in self.readers:
            reader.on_landed()
        return offset


class Reader(Generic[T]):
    """One consumer of one partition.

    It has fetched the records before `visible` and returned those before `position`.
    """

    __slots__ = ("_fetching", "_held", "_host", "_on_trimmed", "_partition", "_ticket", "_topic",
                 "_wake", "position", "visible")  # fmt: skip

    def __init__(
        self,
        host: Host,
        partition: Partition[T],
        wake: Callable[[], None],
        on_trimmed: Callable[[], None] | None = None,
        topic: str = "",
    ) -> None:
        """Create a closed reader. `wake` is called when records can be taken, `on_trimmed` when the
        next record to fetch was deleted; `topic`: by which the host may be cut off from it."""
        self._topic = topic
        self._on_trimmed = on_trimmed
        self._host, self._partition, self._wake = host, partition, wake
        self._ticket = 0
        self._fetching = self._held = False
        self.position = self.visible = 0

    @property
    def is_open(self) -> bool:
        return self in self._partition.readers

    def open(self, position: int) -> None:
        """Fetch from `position`; drop what was fetched before."""
        self.close()
        self.position = self.visible = position
        self._partition.readers.append(self)
        self._fetch()

    def close(self) -> None:
        self._ticket += 1
        self._fetching = False
        self.visible = self.position
        if self in self._partition.readers:
            self._partition.readers.remove(self)

    def hold(self) -> None:
        """For scenarios: fetches return nothing until `release`."""
        self._held = True

    def release(self) -> None:
        self._held = False
        self._fetch()

    def on_landed(self) -> None:
        """The partition has grown."""
        if not self._fetching:
            self._fetch()

    def take(self, max_records: int | None = None) -> tuple[int, list[T]]:
        """Return up to `max_records` records that were fetched, and the offset of the first."""
        first = self.position
        if first >= self.visible:
            return first, []
        self.position = self.visible if max_records is None else first + max_records
        return first, self._partition.records[first : self.position]

    def _fetch(self) -> None:
        self._fetching = True
        loop = self._host.cluster.loop
        loop.after(loop.exponential(self._host.fetch_us), self._fetched, self._ticket)

    def _fetched(self, ticket: int) -> None:
        host = self._host
        if ticket != self._ticket:
            return
        if self._held:
            self._fetching = True
            return
        if not host.reaches(self._topic):
            host.when_reachable(self._fetched, ticket)
            return
        until_us = max(host.stalled_until_us, self._partition.stalled_until_us)
        if until_us > host.cluster.loop.now_us:
            host.cluster.loop.at(until_us, self._fetched, ticket)
        else:
            self._arrive()

    def _arrive(self) -> None:
        """Usually all there is; in one of five cases fewer."""
        end, loop = len(self._partition.records), self._host.cluster.loop
        self._fetching = False
        if self.visible < self._partition.begin:
            assert self._on_trimmed is not None
            self._on_trimmed()
            return
        if end <= self.visible:
            return
        if end - self.visible > 1 and loop.random.random() < 0.2:
            end = loop.random.randint(self.visible + 1, end)
        self.visible = end
        if end < len(self._partition.records):
            self._fetch()
        self._wake()


class SinkTopic:
    """A sink's partition as a subscriber sees it, with production's reader, restarted at times."""

    __slots__ = ("_name", "_records", "_subscriber", "next_seq", "publisher", "tail", "watcher")

    def __init__(self, name: str, watcher: Callable[[int, bytes], None]) -> None:
        """`watcher(seq, value)` is called at the instant a record lands."""
        self.watcher = watcher
        self._name, self._records = name, 0
        self._subscriber = PartitionReader(name, 0)
        self.next_seq = 0  # the subscriber has seen everything before, in order, once
        self.tail = 0  # the sequence of the last record plus one
        self.publisher: object = None  # the producer that was opened last

    def land(self, seq: int, value: bytes) -> bool:
        """Append and return whether the output is a duplicate. Raises `SequenceGap`."""
        self.watcher(seq, value)
        self.tail = seq + 1
        record = Received(self._name, 0, self._records, seq, value, 0)
        self._records += 1
        seen = self._subscriber.take(record, 0)
        seqs = [output.seq for output in seen]
        assert seqs in ([], [self.next_seq]), "a subscriber sees 0, 1, 2 …"
        self.next_seq += len(seen)
        if self._records % RESTART_EVERY == 0:
            self._subscriber = PartitionReader(self._name, 0, self._subscriber.position)
        return not seen


class ShardTopics:
    """The partitions of one shard."""

    def __init__(
        self,
        shard: int,
        on_journal: Callable[[int, bytes], None],
        on_sink: Callable[[str, int, bytes], None],
    ) -> None:
        """The callbacks are called at the instant a record lands."""
        self.shard = shard
        self.journal: Partition[bytes] = Partition(on_journal)
        self.sources: dict[str, Partition[SourceRecord]] = {name: Partition() for name in SOURCES}
        self.sinks = {name: SinkTopic(name, _for_sink(on_sink, name)) for name in SINKS}


def _for_sink(
    on_sink: Callable[[str, int, bytes], None], name: str
) -> Callable[[int, bytes], None]:
    return lambda seq, value: on_sink(name, seq, value)
