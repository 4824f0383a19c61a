"""What goes into a replica's `step` (messages) and what comes out of it (effects).

The order of effects is the contract: the runtime carries them out one after the other.
Times are ms; `time_ms` and `oldest_ms` are ms since the Unix epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from postjournal.core.records import SourceRecord
from postjournal.core.roles import Cause, Role, SnapshotState
from postjournal.core.snapshot.image import Image
from postjournal.core.state.outbox import Outputs

# --- messages: what has happened ------------------------------------------------------------


@dataclass(slots=True)
class JournalRecords:
    """Records of the shard's journal partition in offset order: (offset, value)."""

    records: list[tuple[int, bytes]]


@dataclass(slots=True)
class SourceRecords:
    """Records of one source topic's partition in offset order, at least one.

    `time_ms`: the timestamp of the first one, ms since the Unix epoch.
    """

    topic: str
    time_ms: int
    records: list[SourceRecord]


@dataclass(slots=True)
class AppendAcknowledged:
    """`count` more appends (claims do not count) of this incarnation were acknowledged."""

    count: int


@dataclass(slots=True)
class AppendFailed:
    """An append (not a claim) of this incarnation was given up; it may be in the journal anyway.

    `is_refused`: Kafka does not take this record, and would not take it from another replica.
    """

    error: str
    is_refused: bool = False


@dataclass(slots=True)
class JournalEnd:
    """The offset after the journal's last record, from the broker; None: it did not answer.

    `token`: of the `ProbeEnd` that this answers; None also for an unsolicited report.
    """

    end: int | None
    token: Any = None


@dataclass(slots=True)
class TripwireFired:
    """The connection to the leader of `epoch` closed and one reconnect did not succeed."""

    epoch: int


@dataclass(slots=True)
class SinkTail:
    """The sequence after that of the last record in the sink's topic; 0 when it has none."""

    sink: str
    next_seq: int


@dataclass(slots=True)
class Published:
    """Every output of `sink` before `next_seq` that this leadership published is acknowledged."""

    sink: str
    next_seq: int


@dataclass(slots=True)
class PublishFailed:
    """The sink's producer failed; what was in flight may or may not be in the topic."""

    sink: str
    error: str


@dataclass(slots=True)
class SourceStalled:
    """A source has records, or cannot be reached, and none has arrived for a bounded time.

    `reason`: for operators; None: that is over.
    """

    topic: str
    reason: str | None


@dataclass(slots=True)
class HandoverRequested:
    """The leader is asked to resign; `successor`: the replica to follow, None: any."""

    successor: str | None = None


@dataclass(slots=True)
class StopRequested:
    """The process is to end: resign if leading, then `Stopped`."""


@dataclass(slots=True)
class QueryRequested:
    """A read, answered by `Reply` with the same `token`.

    `linearizable`: only a leader answers, after a barrier. `min_seq`: the answer must account for
    the command with this sequence; a replica that has not applied it within `timeout_ms` refuses.
    """

    token: Any
    query: dict[str, str]
    linearizable: bool
    min_seq: int = -1
    timeout_ms: int = 0


@dataclass(slots=True)
class Restored:
    """The snapshot that `Restore` found; None: the journal is read from its beginning."""

    image: Image[Any, Any, Any] | None


@dataclass(slots=True)
class JournalTrimmed:
    """The records that this replica needs next have been deleted; a snapshot may stand for them."""


@dataclass(frozen=True, slots=True)
class SnapshotRequested:
    """A coordinator asks `replica` to take the snapshot `snapshot_id`."""

    replica: str
    snapshot_id: str
    attempt: int
    allow_leader: bool = False


class SnapshotProgressed(msgspec.Struct, frozen=True):
    """The progress of a snapshot that this replica takes; also the effect that reports it.

    The status record `SnapshotProgress` in `postjournal.cluster.status` has these fields as well,
    and their meaning.
    """

    id: str
    attempt: int
    state: SnapshotState
    offset: int = -1
    seq: int = 0
    epoch: int = 0
    written: int = 0
    read_back: int = 0
    size: int = 0
    sha256: str | None = None
    duration_ms: int = 0
    fork_ms: float = 0.0
    error: str | None = None


@dataclass(slots=True)
class Tick:
    """Time has passed without any other message."""


Message: TypeAlias = (
    JournalRecords
    | SourceRecords
    | AppendAcknowledged
    | AppendFailed
    | JournalEnd
    | TripwireFired
    | SinkTail
    | Published
    | PublishFailed
    | SourceStalled
    | HandoverRequested
    | StopRequested
    | QueryRequested
    | Restored
    | JournalTrimmed
    | SnapshotRequested
    | SnapshotProgressed
    | Tick
)

# --- effects: what to do --------------------------------------------------------------------


@dataclass(slots=True)
class Restore:
    """Find and load the best snapshot; answered by Restored. Always the first effect."""


@dataclass(slots=True)
class OpenJournal:
    """Deliver journal records from `offset` on."""

    offset: int


@dataclass(slots=True)
class TakeSnapshot:
    """Store `image` as it is now; answered by SnapshotProgressed, the last one in a final state."""

    request: SnapshotRequested
    image: Image[Any, Any, Any]


@dataclass(slots=True)
class Append:
    """Append to the journal, in the order of the effects; answered by AppendAcknowledged or
    AppendFailed."""

    value: bytes


@dataclass(slots=True)
class ForgetAppends:
    """Report none of the appends made so far; a failed one must not fail later ones."""


@dataclass(slots=True)
class AppendClaim:
    """Append a claim with a short delivery time-out; never answered."""

    value: bytes


@dataclass(slots=True)
class PurgeClaims:
    """Drop claims that have not left the process."""


@dataclass(slots=True)
class ProbeEnd:
    """Ask the broker for the journal's end; answered by JournalEnd with the same `token`."""

    token: Any = None


@dataclass(slots=True)
class WatchLeader:
    """Watch `incarnation`, which leads `epoch` from `address` (host:port)."""

    address: str
    incarnation: str
    epoch: int


@dataclass(slots=True)
class UnwatchLeader:
    """Watch no leader."""


@dataclass(slots=True)
class OpenSources:
    """Deliver source records from `offsets` (topic → next offset; absent: from the beginning)."""

    offsets: dict[str, int]


@dataclass(slots=True)
class PauseSources:
    """Stop delivering source records until ResumeSources: enough are pending."""


@dataclass(slots=True)
class ResumeSources:
    """Deliver source records again, from where they were paused."""


@dataclass(slots=True)
class CloseSources:
    """Deliver no source records until the next OpenSources."""


@dataclass(slots=True)
class OpenSink:
    """Drop what the sink's producer holds, take a new one, read the tail: SinkTail."""

    sink: str


@dataclass(slots=True)
class CloseSinks:
    """Drop what the sinks' producers hold; Published and PublishFailed end."""


@dataclass(slots=True)
class Publish:
    """Publish `outputs` in order; answered by Published or PublishFailed."""

    sink: str
    outputs: Outputs


@dataclass(slots=True)
class Reply:
    """Answer a QueryRequested. `error`: None, a `ReadError`, or `failed: TEXT`.

    `seq`: of the last command that the result reflects, -1: none.
    """

    token: Any
    result: object
    seq: int
    epoch: int
    error: str | None = None


@dataclass(slots=True)
class Rebuild:
    """Discard this replica and start a new incarnation from the journal; always the last."""


@dataclass(slots=True)
class Stopped:
    """This replica has stopped as requested; always the last."""


@dataclass(slots=True)
class RoleChanged:
    """For logs, metrics and the status topic."""

    role: Role
    epoch: int
    reason: str


class TookOver(msgspec.Struct, frozen=True):
    """This replica took over; for logs, metrics and the status topic (record `Failover`).

    `previous`: the leader before, None: there was none; `detect_ms`: from its last accepted record
    to the suspicion; `claim_ms`: to the read-back of the claim; `resume_ms`: to the read-back of
    the first own entry or heartbeat.
    """

    epoch: int
    previous: str | None
    cause: Cause
    detect_ms: int
    claim_ms: int
    resume_ms: int

    @property
    def total_ms(self) -> int:
        """From the old leader's last accepted record to the first own one."""
        return self.detect_ms + self.claim_ms + self.resume_ms


@dataclass(slots=True)
class EntryStable:
    """For metrics: an own entry was read back `append_ms` after its append.

    `oldest_ms`: the timestamp of the record with which its commands' delivery began: the first
    command's, or that of an earlier one that was delivered together with it.
    """

    commands: int
    rejected: int
    replayed: int
    append_ms: int
    oldest_ms: int


@dataclass(slots=True)
class CommandFailed:
    """For logs: this leader's application raised at a command; it is rejected as `failed`."""

    id: str
    topic: str
    offset: int
    error: Exception


@dataclass(slots=True)
class Impaired:
    """For logs and metrics: this leader resigns, because a source or a sink makes no progress."""

    reason: str


@dataclass(slots=True)
class RecordVoid:
    """For metrics: a void record was read. `alarm`: only its running hash does not match."""

    kind: str
    offset: int
    alarm: bool = False


Effect: TypeAlias = (
    Restore
    | OpenJournal
    | TakeSnapshot
    | Append
    | ForgetAppends
    | AppendClaim
    | PurgeClaims
    | ProbeEnd
    | WatchLeader
    | UnwatchLeader
    | OpenSources
    | PauseSources
    | ResumeSources
    | CloseSources
    | OpenSink
    | CloseSinks
    | Publish
    | Reply
    | Rebuild
    | Stopped
    | RoleChanged
    | TookOver
    | EntryStable
    | CommandFailed
    | Impaired
    | RecordVoid
    | SnapshotProgressed
)
