"""The records of the status and control topics.

Replicas write status records once a second and at each change; the gateway, the coordinator, the
leader view and the command line read them. Safety does not depend on them. The coordinator and
operators write control records. In both topics, the partition is the shard.
"""

from __future__ import annotations

import msgspec

from postjournal.cluster.states import FailoverPhase
from postjournal.core.records import UNREADABLE


class CatchUp(msgspec.Struct, frozen=True):
    """The progress of a replica that is not in sync.

    `source`: snapshot (`done` and `total` are bytes) or journal (they are records);
    `commands_per_s`: applied in the last seconds; `left_s`: seconds left at the current rate,
    None: unknown.
    """

    source: str
    done: int
    total: int
    commands_per_s: int = 0
    left_s: float | None = None


class Load(msgspec.Struct, frozen=True):
    """A leader's load in the last second.

    `p50_ms`, `p99_ms`: over the entries, from the timestamp of an entry's oldest command until the
    entry was stable; `append_p50_ms`: from appending an entry to reading it back. None: there was
    no entry.
    """

    commands_per_s: int
    p50_ms: int | None = None
    p99_ms: int | None = None
    append_p50_ms: int | None = None


class ReplicaStatus(msgspec.Struct, tag_field="kind", tag="replica", frozen=True, kw_only=True):
    """A status record: one replica's view of one shard.

    `state`: a `states.ReplicaState`, or that of a newer release;
    `leader`: the name of the shard's leader as this replica's journal has it, or None;
    `since`: when that leadership began, ms since the Unix epoch (the reader's clock);
    `snapshot`: the id of the snapshot that is being restored, or None; `catch_up`: only while
    restoring or catching up; `load`: only while leading;
    `lag`: journal records not yet applied, or None when unknown; `lag_s`: seconds since this
    replica was last known to have read the whole journal; `http`, `tripwire`: host:port; `time`: ms
    since the Unix epoch; `pid`: of the engine, 0 while it is being restarted; `last_end`: how the
    previous engine of this shard ended since the replica was started, or None.
    """

    replica: str
    incarnation: str
    pid: int
    shard: int
    state: str
    epoch: int
    leader: str | None
    leader_address: str | None
    since: int
    seq: int
    digest: str
    lag: int | None
    lag_s: float
    http: str
    tripwire: str
    time: int
    error: str | None = None
    snapshot: str | None = None
    catch_up: CatchUp | None = None
    load: Load | None = None
    last_end: str | None = None


class Failover(msgspec.Struct, tag_field="kind", tag="failover", frozen=True, kw_only=True):
    """A status record: one takeover, reported by the new leader. Durations in ms.

    `detect`: from the old leader's last accepted record (when this replica read it) to the
    suspicion; `claim`: from there until the new leader has read back its claim; `resume`: from
    there until it has read back its first entry or, without commands, its first heartbeat;
    `total`: their sum. `cause`: a `states.FailoverCause`; `previous`: the old leader, or None.
    """

    shard: int
    epoch: int
    previous: str | None
    leader: str
    cause: str
    detect_ms: float
    claim_ms: float
    resume_ms: float
    total_ms: float
    time: int

    def duration_ms(self, phase: FailoverPhase) -> float:
        """How long one phase, or `FailoverPhase.TOTAL`, took."""
        duration: float = getattr(self, f"{phase}_ms")
        return duration

    @property
    def summary(self) -> str:
        """A description of one line."""
        previous = f" from {self.previous}" if self.previous is not None else ""
        return (
            f"shard {self.shard}: {self.leader} took over{previous} in "
            f"{self.total_ms:.0f} ms ({self.cause}; detect {self.detect_ms:.0f}, claim "
            f"{self.claim_ms:.0f}, resume {self.resume_ms:.0f})"
        )


class Handover(msgspec.Struct, tag_field="kind", tag="handover", frozen=True, kw_only=True):
    """A control record that requests the leader of `shard` to resign in favor of `successor`.

    `successor` None: any standby may claim. `time`: ms since the Unix epoch.
    """

    shard: int
    successor: str | None = None
    time: int


class SnapshotOrder(msgspec.Struct, tag_field="kind", tag="snapshot", frozen=True, kw_only=True):
    """A control record that requests `replica` to take the snapshot `id` of `shard`.

    `attempt`: from 1; each goes to one replica. `allow_leader`: whether a leader may take it.
    `asked`: when the snapshot was first requested; `time`: of this attempt; both ms since the
    Unix epoch.
    """

    id: str
    shard: int
    replica: str
    attempt: int
    allow_leader: bool = False
    asked: int
    time: int


class SnapshotProgress(
    msgspec.Struct, tag_field="kind", tag="snapshot", frozen=True, kw_only=True, omit_defaults=True
):
    """A status record: the progress of the snapshot `id` of `shard`, reported by `replica`.

    `state`: a `states.SnapshotState` other than ordered; given_up is written by a coordinator.
    `written`, `read_back`: bytes of the object stored and verified so far; `offset`, `seq`,
    `epoch`, `size`, `sha256`: as in the manifest; `fork_ms`: how long the engine was paused.
    """

    id: str
    shard: int
    replica: str
    incarnation: str
    attempt: int
    state: str
    time: int
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


ControlRecord = Handover | SnapshotOrder
StatusRecord = ReplicaStatus | Failover | SnapshotProgress

_status_decoder: msgspec.json.Decoder[StatusRecord] = msgspec.json.Decoder(StatusRecord)
_control_decoder: msgspec.json.Decoder[ControlRecord] = msgspec.json.Decoder(ControlRecord)


def decode_status(value: bytes | None) -> StatusRecord | None:
    """Decode a status record; None for another kind or version, which readers skip."""
    try:
        return _status_decoder.decode(value or b"")
    except UNREADABLE:
        return None


def decode_control(value: bytes | None) -> ControlRecord | None:
    """Decode a control record; None for another kind or version, which replicas skip."""
    try:
        return _control_decoder.decode(value or b"")
    except UNREADABLE:
        return None
