"""What a replica of one shard needs of the world. Adapters and the simulation implement it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

from postjournal.core.messages import (
    EntryStable,
    Message,
    RecordVoid,
    RoleChanged,
    SnapshotProgressed,
    SnapshotRequested,
    TookOver,
)
from postjournal.core.snapshot.image import Image
from postjournal.core.state.outbox import Outputs

Event: TypeAlias = RoleChanged | TookOver | EntryStable | RecordVoid | SnapshotProgressed
"""What an observer is told."""


class ShardLog(Protocol):
    """One shard's partitions: journal, sources, sinks. Used by one thread.

    What is asked for here is answered by messages from `poll`, in an order the implementation
    chooses, but: journal records come in offset order without omission; source records of a
    topic likewise; after `rewind` nothing comes that belongs to the time before it, and after
    `open_sources` no source record of the time before it.
    """

    def poll(self, timeout_ms: int) -> Sequence[Message]:
        """What has happened; waits up to `timeout_ms` when nothing has."""

    def open_journal(self, offset: int) -> None:
        """Deliver the journal from `offset` on; nothing of it comes before this is asked."""

    def append(self, value: bytes) -> None:
        """Append to the journal, in order; AppendAcknowledged or AppendFailed follows."""

    def forget_appends(self) -> None:
        """No report follows of what was appended so far, which may land all the same.

        After a failure, what is appended from now on must not fail for that alone.
        """

    def append_claim(self, value: bytes) -> None:
        """Append to the journal, soon or never; nothing follows."""

    def purge_claims(self) -> None:
        """Drop claims not yet sent."""

    def probe_end(self, token: Any = None) -> None:
        """JournalEnd follows, with the token."""

    def open_sources(self, offsets: dict[str, int]) -> None:
        """Deliver SourceRecords from `offsets` (topic → next offset; absent: the beginning)."""

    def pause_sources(self) -> None:
        """Deliver none until `resume_sources`; nothing is skipped."""

    def resume_sources(self) -> None:
        """Deliver again from where `pause_sources` stopped."""

    def close_sources(self) -> None:
        """Deliver none until the next `open_sources`."""

    def open_sink(self, sink: str) -> None:
        """Drop what is queued, take a fresh producer, read the tail: SinkTail follows."""

    def publish(self, sink: str, outputs: Outputs) -> None:
        """Publish in order; Published follows, or PublishFailed once."""

    def close_sinks(self) -> None:
        """Drop what is queued; no Published, PublishFailed or SinkTail follows any more."""

    def rewind(self) -> None:
        """Deliver nothing until `open_journal`: a new incarnation begins."""


class Tripwire(Protocol):
    """Notices within a millisecond that the leader's process is gone.

    Firing reaches the replica as `TripwireFired` through `poll`.
    """

    def watch(self, address: str, epoch: int) -> None:
        """Hold a connection to `address` (host:port); replaces the one before."""

    def unwatch(self) -> None:
        """Let go of it."""

    def poll(self) -> Sequence[Message]:
        """What has happened since the last call; never waits."""


class Snapshots(Protocol):
    """Takes down and brings back a replica's state."""

    def restore(self) -> None:
        """Restored follows."""

    def take(self, asked: SnapshotRequested, image: Image[Any, Any, Any]) -> None:
        """The image as it is when this is called; SnapshotProgressed follow. One at a time."""

    def give_up(self) -> None:
        """Whatever is under way: nothing follows of it."""

    def poll(self) -> Sequence[Message]:
        """What has happened since the last call; never waits. Raises `ShardHalted`."""


class Clock(Protocol):
    """Time, as integers in ms."""

    def monotonic_ms(self) -> int:
        """For durations."""

    def wall_ms(self) -> int:
        """Since the Unix epoch: what goes into the journal."""


class Inbox(Protocol):
    """What people and other threads ask of the replica."""

    def poll(self) -> Sequence[Message]:
        """HandoverRequested, StopRequested, QueryRequested; never waits."""

    def reply(self, token: Any, result: object, seq: int, epoch: int, error: str | None) -> None:
        """Answer a QueryRequested."""


class Observer(Protocol):
    """Metrics, log lines, status records. Must not raise."""

    def observe(self, event: Event) -> None:
        """One thing that happened."""
