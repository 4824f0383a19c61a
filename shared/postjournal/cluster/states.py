"""The states, phases and causes that status records, metrics and the HTTP interface report.

The values are part of the wire formats and never change. The predicates accept any string, because
a record of a newer release may have a state that this release does not know.
"""

from __future__ import annotations

from enum import StrEnum

NO_LEADER = "no_leader"
"""The state of a shard that has no leader; see `view.ShardView`."""


class ReplicaState(StrEnum):
    """The state of one replica in one shard: `ReplicaStatus.state`, the label of postjournal_role.

    `halted` is set by the service when the engine stops with an error; the other states are roles
    of the engine.
    """

    RESTORING = "restoring"
    CATCHING_UP = "catching_up"
    STANDBY = "standby"
    CLAIMING = "claiming"
    LEADER = "leader"
    RESIGNING = "resigning"
    READER = "reader"
    REBUILDING = "rebuilding"
    STOPPED = "stopped"
    HALTED = "halted"


class FailoverCause(StrEnum):
    """Why a standby has claimed: `Failover.cause`."""

    TRIPWIRE = "tripwire"
    SILENCE = "silence"
    RESIGNED = "resigned"
    NO_LEADER = "no_leader"


class FailoverPhase(StrEnum):
    """The phases of a takeover, in their order, and their sum; see `Failover`."""

    DETECT = "detect"
    CLAIM = "claim"
    RESUME = "resume"
    TOTAL = "total"


class SnapshotState(StrEnum):
    """The state of a snapshot: `SnapshotProgress.state`, and `state` in the coordinator's API.

    `ordered`: no replica has started to write; in the API only. `failed`: in a status record, this
    attempt has failed; in the API, no further attempt follows. `given_up`: no further attempt
    follows; in status records only.
    """

    ORDERED = "ordered"
    WRITING = "writing"
    VERIFYING = "verifying"
    DONE = "done"
    FAILED = "failed"
    GIVEN_UP = "given_up"


_LEADING = frozenset({ReplicaState.LEADER, ReplicaState.RESIGNING})
_IN_SYNC = _LEADING | {ReplicaState.STANDBY, ReplicaState.CLAIMING, ReplicaState.READER}


def leads(state: str) -> bool:
    """Whether a replica in this state holds the leadership of its shard."""
    return state in _LEADING


def is_in_sync(state: str) -> bool:
    """Whether a replica in this state has read its journal to the end."""
    return state in _IN_SYNC


def serves_reads(state: str) -> bool:
    """Whether a replica in this state answers reads of any consistency; it must be in sync."""
    return is_in_sync(state)


def is_final(state: str) -> bool:
    """Whether a snapshot, or in a status record one attempt to take it, has ended."""
    return state in (SnapshotState.DONE, SnapshotState.FAILED)


def ends_snapshot(state: str) -> bool:
    """Whether a status record with this snapshot state rules out any further attempt."""
    return state in (SnapshotState.DONE, SnapshotState.GIVEN_UP)
