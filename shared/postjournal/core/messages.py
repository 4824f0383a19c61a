"""What goes into a replica's `step` (messages) and what comes out of it (effects).

The order of effects is the contract: the runtime carries them out one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from postjournal.core.records import SourceRecord
from postjournal.core.snapshot.image import Image
from postjournal.core.state.outbox import Outputs

# --- messages: the world tells the replica -------------------------------------------------


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
    """An append (not a claim) of this incarnation was given up; it may have landed all the same."""

    error: str


@dataclass(slots=True)
class JournalEnd:
    """The offset after the journal's last record, as the broker said; None: it did not answer.

    `token`: of the `ProbeEnd` that this answers; None also when nobody asked.
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
class HandoverRequested:
    """An operator wants the leader to resign; `successor` is a replica's name or None."""

    successor: str | None = None


@dataclass(slots=True)
class StopRequested:
    """The process wants to end: resign if leading, then `Stopped`."""


@dataclass(slots=True)
class QueryRequested:
    """A read. `linearizable`: only a leader answers, after a barrier. `token` comes back.

    `min_seq`: the answer must account for the command with this sequence; who has not applied it
    yet waits for `timeout_ms`, then refuses.
    """

    token: Any
    query: dict[str, str]
    linearizable: bool
    min_seq: int = -1
    timeout_ms: int = 0


@dataclass(slots=True)
class Restored:
    """What `Restore` found; None: the journal is read from its beginning."""

    image: Image[Any, Any, Any] | None


@dataclass(slots=True)
class JournalTrimmed:
    """The records that this replica needs next have been deleted; a snapshot may stand for them."""


@dataclass(frozen=True, slots=True)
class SnapshotRequested:
    """A coordinator wants `replica` to take the snapshot `snapshot_id`."""

    replica: str
    snapshot_id: str
    attempt: int
    allow_leader: bool = False


@dataclass(frozen=True, slots=True)
class SnapshotProgressed:
    """Progress of the snapshot being taken; see `postjournal.cluster.status.SnapshotProgress`."""

    snapshot_id: str
    attempt: int
    state: str
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
    """Time has passed."""


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
    | HandoverRequested
    | StopRequested
    | QueryRequested
    | Restored
    | JournalTrimmed
    | SnapshotRequested
    | SnapshotProgressed
    | Tick
)

# --- effects: the replica tells the world --------------------------------------------------


@dataclass(slots=True)
class Restore:
    """Look for the best snapshot; answered by Restored. Always the first."""


@dataclass(slots=True)
class OpenJournal:
    """Deliver journal records from `offset` on."""

    offset: int


@dataclass(slots=True)
class TakeSnapshot:
    """Write `image` down as it is now, and store it; answered by SnapshotProgressed, the last one
    with the state `done` or `failed`."""

    asked: SnapshotRequested
    image: Image[Any, Any, Any]


@dataclass(slots=True)
class Append:
    """Append to the journal, in the order of the calls; answered by Append{Landed,Failed}."""

    value: bytes


@dataclass(slots=True)
class ForgetAppends:
    """Report no append that was made so far; one that failed costs its producer no later one."""


@dataclass(slots=True)
class AppendClaim:
    """Append a claim with a short delivery time-out; never answered."""

    value: bytes


@dataclass(slots=True)
class PurgeClaims:
    """Drop claims that have not left the process."""


@dataclass(slots=True)
class ProbeEnd:
    """Ask the broker for the journal's end; answered by JournalEnd, in which `token` comes back."""

    token: Any = None


@dataclass(slots=True)
class WatchLeader:
    """Hold a tripwire connection to `address` (host:port), the leader of `epoch`."""

    address: str
    epoch: int


@dataclass(slots=True)
class UnwatchLeader:
    """Let go of the tripwire."""


@dataclass(slots=True)
class OpenSources:
    """Deliver source records from `offsets` (topic → next offset; absent: from the beginning)."""

    offsets: dict[str, int]


@dataclass(slots=True)
class PauseSources:
    """Stop delivering source records until ResumeSources: enough are waiting."""


@dataclass(slots=True)
class ResumeSources:
    """Deliver source records again, from where they were held."""


@dataclass(slots=True)
class CloseSources:
    """Deliver no source records until the next OpenSources."""


@dataclass(slots=True)
class OpenSink:
    """Drop what the sink's producer holds, take a fresh one, read the tail: SinkTail."""

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
    """Answer a QueryRequested. `error` is None, not_leader, not_ready, behind or failed: TEXT."""

    token: Any
    result: object
    seq: int
    epoch: int
    error: str | None = None


@dataclass(slots=True)
class Rebuild:
    """Throw this replica away and start a new incarnation from the journal; always the last."""


@dataclass(slots=True)
class Stopped:
    """This replica has stopped as asked; always the last."""


@dataclass(slots=True)
class RoleChanged:
    """For people and metrics."""

    role: str
    epoch: int
    reason: str


@dataclass(slots=True)
class TookOver:
    """For people and metrics; see `postjournal.cluster.status.Failover`."""

    epoch: int
    previous: str | None
    cause: str
    detect_ms: int
    claim_ms: int
    resume_ms: int


@dataclass(slots=True)
class EntryStable:
    """For metrics: an own entry was read back `append_ms` after its append.

    `oldest_ms`: the timestamp of the record with which its commands' delivery began (the first
    command's, or that of an earlier one taken in with it), ms since the Unix epoch.
    """

    commands: int
    rejected: int
    replayed: int
    append_ms: int
    oldest_ms: int


@dataclass(slots=True)
class RecordVoid:
    """For metrics: a void record was read. `alarm`: a running hash does not fit."""

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
    | RecordVoid
    | SnapshotProgressed
)
