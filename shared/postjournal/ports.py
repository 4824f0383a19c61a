"""The ports of a replica of one shard. Adapters implement them, and so does the simulation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

from postjournal.core.messages import (
    CommandFailed,
    EntryStable,
    Impaired,
    Message,
    RecordVoid,
    RoleChanged,
    SnapshotProgressed,
    SnapshotRequested,
    TookOver,
)
from postjournal.core.snapshot.image import Image
from postjournal.core.state.outbox import Outputs

Observation: TypeAlias = (
    RoleChanged
    | TookOver
    | EntryStable
    | CommandFailed
    | Impaired
    | RecordVoid
    | SnapshotProgressed
)
"""What an observer receives."""


class ShardLog(Protocol):
    """One shard's partitions: journal, sources, sinks. Used by one thread.

    Requests are answered by messages from `poll`, in any order, except that: journal records are
    delivered in offset order without omission; source records of a topic likewise; after `rewind`
    no message follows that was caused before it, and after `open_sources` no source record that
    was fetched before it. `poll` raises `ShardHalted` when the shard must not go on.
    """

    def poll(self, timeout_ms: int) -> Sequence[Message]:
        """Return what has happened; wait up to `timeout_ms` when nothing has in any port."""

    def open_journal(self, offset: int) -> None:
        """Deliver journal records from `offset` on; none is delivered before this call."""

    def append(self, value: bytes) -> None:
        """Append to the journal, in order; AppendAcknowledged or AppendFailed follows."""

    def forget_appends(self) -> None:
        """Report none of the appends so far; they may reach the journal anyway.

        An earlier failure must not make later appends fail.
        """

    def append_claim(self, value: bytes) -> None:
        """Append to the journal within a short time-out, or not at all; no report follows."""

    def purge_claims(self) -> None:
        """Drop claims that are not yet sent."""

    def probe_end(self, token: Any = None) -> None:
        """Ask the broker for the journal's end; JournalEnd follows, with the token."""

    def open_sources(self, offsets: dict[str, int]) -> None:
        """Deliver SourceRecords from `offsets` (topic → next offset; absent: the beginning).

        SourceStalled follows for one that has records and delivers none.
        """

    def pause_sources(self) -> None:
        """Deliver no source record until `resume_sources`; none is skipped."""

    def resume_sources(self) -> None:
        """Deliver again from where `pause_sources` stopped; closed sources stay closed."""

    def close_sources(self) -> None:
        """Deliver no source record until the next `open_sources`."""

    def open_sink(self, sink: str) -> None:
        """Drop queued outputs, take a new producer, read the topic's tail: SinkTail follows."""

    def publish(self, sink: str, outputs: Outputs) -> None:
        """Publish in order; Published follows, or PublishFailed once."""

    def close_sinks(self) -> None:
        """Drop queued outputs; no Published, PublishFailed or SinkTail follows."""

    def rewind(self) -> None:
        """Deliver no record until `open_journal`: a new incarnation begins."""


class Tripwire(Protocol):
    """Detects within a millisecond that the leader's engine or replica has died.

    `poll` then returns `TripwireFired`.
    """

    def watch(self, address: str, incarnation: str, epoch: int) -> None:
        """Watch `incarnation`, which leads `epoch` from `address` (host:port), and no other."""

    def unwatch(self) -> None:
        """Watch no leader."""

    def poll(self) -> Sequence[Message]:
        """Return what has happened since the last call; never wait."""


class Snapshots(Protocol):
    """Stores and restores a replica's state."""

    def restore(self) -> None:
        """Find and load the best snapshot; Restored follows."""

    def take(self, request: SnapshotRequested, image: Image[Any, Any, Any]) -> None:
        """Store the image as it is at this call; SnapshotProgressed follow. One at a time."""

    def cancel(self) -> None:
        """Cancel whatever is in progress; no message of it follows."""

    def poll(self) -> Sequence[Message]:
        """Return what has happened since the last call; never wait. Raises `ShardHalted`."""


class Clock(Protocol):
    """Time, as integers in ms."""

    def monotonic_ms(self) -> int:
        """Return the monotonic time, for durations."""

    def wall_ms(self) -> int:
        """Return ms since the Unix epoch, the time that goes into the journal."""


class Inbox(Protocol):
    """Requests of operators and clients to the replica."""

    def poll(self) -> Sequence[Message]:
        """Return HandoverRequested, StopRequested and QueryRequested; never wait."""

    def reply(self, token: Any, result: object, seq: int, epoch: int, error: str | None) -> None:
        """Answer a QueryRequested; see `Reply`."""


class Observer(Protocol):
    """Turns observations into metrics, log lines and status records. Must not raise."""

    def observe(self, observation: Observation) -> None:
        """Record one observation; called on the engine's thread."""
