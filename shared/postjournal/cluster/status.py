"""The records of the status topic: what replicas say of themselves, for views and people.

Written by replicas once a second and at each change; read by the gateway, the leader view and
the command line. Nothing that safety needs depends on them. Partition = shard.
"""

from __future__ import annotations

import msgspec

from postjournal.core.records import UNREADABLE


class CatchUp(msgspec.Struct, frozen=True):
    """How a replica that is not in sync gets on.

    `source`: snapshot (`done` and `total` are bytes) or journal (they are records);
    `commands_per_s`: applied in the last seconds; `left_s`: at the present rate, None: unknown.
    """

    source: str
    done: int
    total: int
    commands_per_s: int = 0
    left_s: float | None = None


class Load(msgspec.Struct, frozen=True):
    """What a leader has done in the last second.

    `p50_ms`, `p99_ms`: over the entries, from the timestamp of an entry's oldest command to the
    entry's being stable; `append_p50_ms`: from appending an entry to reading it back. None: there
    was no entry.
    """

    commands_per_s: int
    p50_ms: int | None = None
    p99_ms: int | None = None
    append_p50_ms: int | None = None


class ReplicaStatus(msgspec.Struct, tag_field="kind", tag="replica", frozen=True, kw_only=True):
    """One replica's view of one shard.

    `state`: restoring, catching_up, standby, claiming, leader, resigning, reader or halted;
    `leader`: the name of the shard's leader as this replica's journal has it, or None;
    `since`: when that leadership began, ms since the Unix epoch (the reader's clock);
    `snapshot`: the id of the snapshot that it is restoring, or None; `catch_up`: while it is
    restoring or catching up; `load`: while it leads;
    `lag`: journal records not yet applied, or None when unknown; `lag_s`: seconds since this
    replica was last known to have read everything; `http`, `tripwire`: host:port; `time`: ms
    since the Unix epoch.
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


class Failover(msgspec.Struct, tag_field="kind", tag="failover", frozen=True, kw_only=True):
    """One takeover, told by the new leader. Durations in ms.

    `detect`: from the old leader's last accepted record (as read here) to the suspicion;
    `claim`: to the own claim's read-back; `resume`: to the first own entry's or, when there was
    no command, the first own heartbeat's read-back; `total`: their sum. `cause`: tripwire,
    silence, resigned or no_leader.
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

    @property
    def told(self) -> str:
        """In one line, for people."""
        return (
            f"shard {self.shard}: {self.leader} took over from {self.previous} in "
            f"{self.total_ms:.0f} ms ({self.cause}; detect {self.detect_ms:.0f}, claim "
            f"{self.claim_ms:.0f}, resume {self.resume_ms:.0f})"
        )


class Handover(msgspec.Struct, tag_field="kind", tag="handover", frozen=True, kw_only=True):
    """A control record: the leader of `shard` is asked to resign in favour of `successor`.

    `successor` None: whoever claims first. `time`: ms since the Unix epoch.
    """

    shard: int
    successor: str | None = None
    time: int


class SnapshotOrder(msgspec.Struct, tag_field="kind", tag="snapshot", frozen=True, kw_only=True):
    """A control record: `replica` is asked to take the snapshot `id` of `shard`.

    `attempt`: from 1; each goes to one replica. `allow_leader`: a leader may do it as well.
    `asked`: when somebody asked for the snapshot first; `time`: of this attempt; both ms since
    the Unix epoch.
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
    """How the snapshot `id` of `shard` gets on, told by the replica that takes it.

    `state`: writing, verifying, done, failed (this attempt), or given_up (told by a coordinator:
    no further attempt follows). `written`, `read_back`: bytes of the object stored and
    verified so far; `offset`, `seq`, `epoch`, `size`, `sha256`: as in the manifest;
    `fork_ms`: how long the engine stood still.
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
    """The record, or None when it is of another kind or version (a view skips it)."""
    try:
        return _status_decoder.decode(value or b"")
    except UNREADABLE:
        return None


def decode_control(value: bytes | None) -> ControlRecord | None:
    """The command, or None when it is of another kind or version."""
    try:
        return _control_decoder.decode(value or b"")
    except UNREADABLE:
        return None
