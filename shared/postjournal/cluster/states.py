"""The states, phases and causes that status records, metrics and the HTTP interface report.

Those that the engine itself sets are defined in core and imported here; everything outside core
takes them from here. The values are part of the wire formats and never change. The predicates
accept any string, because a record of a newer release may have a state that this one does not know.
"""

from __future__ import annotations

from enum import StrEnum

from postjournal.core.roles import Cause as FailoverCause
from postjournal.core.roles import ReadError, SnapshotState
from postjournal.core.roles import Role as ReplicaState

__all__ = [
    "NO_LEADER",
    "FailoverCause",
    "FailoverPhase",
    "ReadError",
    "ReplicaState",
    "SnapshotState",
    "ends_snapshot",
    "is_final",
    "is_in_sync",
    "leads",
    "serves_reads",
]

NO_LEADER = "no_leader"
"""The state of a shard that has no leader; see `view.ShardView`."""


class FailoverPhase(StrEnum):
    """The phases of a takeover, in their order, and their sum; see `Failover`."""

    DETECT = "detect"
    CLAIM = "claim"
    RESUME = "resume"
    TOTAL = "total"


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
