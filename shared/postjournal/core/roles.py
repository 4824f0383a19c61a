"""Who a replica is, what it is doing, and which role may follow which.

Also the other enumerations of the engine that are on the wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from postjournal.core.sharding import ShardPlace


class Role(StrEnum):
    """What a replica of one shard is doing; the values are on the wire (status, metrics, HTTP).

    Predicates for everything outside core are in `postjournal.cluster.states`. `HALTED` is entered
    by the process that runs the replica, when `step` raises `ShardHalted`.
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

    @property
    def is_final(self) -> bool:
        """Whether this incarnation takes no further message."""
        return self in (Role.REBUILDING, Role.STOPPED, Role.HALTED)


_ENDS = frozenset({Role.REBUILDING, Role.STOPPED, Role.HALTED})

TRANSITIONS: Mapping[Role, frozenset[Role]] = {
    Role.RESTORING: _ENDS | {Role.CATCHING_UP},
    Role.CATCHING_UP: _ENDS | {Role.STANDBY, Role.READER},
    Role.STANDBY: _ENDS | {Role.CLAIMING, Role.LEADER},
    Role.CLAIMING: _ENDS | {Role.STANDBY, Role.LEADER},
    Role.LEADER: _ENDS | {Role.RESIGNING, Role.STANDBY},
    Role.RESIGNING: _ENDS | {Role.STANDBY},
    Role.READER: _ENDS,
    Role.REBUILDING: frozenset(),
    Role.STOPPED: frozenset(),
    Role.HALTED: frozenset(),
}
"""Role → the roles that may follow it. `replica.py` explains each transition; a test compares."""


def check_transition(old: Role, new: Role) -> Role:
    """Return `new`; a transition that is not in `TRANSITIONS` fails an assertion."""
    assert new is old or new in TRANSITIONS[old], f"no transition from {old} to {new}"
    return new


class Cause(StrEnum):
    """Why a standby claims; the values are on the wire (status records, metrics)."""

    NO_LEADER = "no_leader"
    RESIGNED = "resigned"
    TRIPWIRE = "tripwire"
    SILENCE = "silence"


class SnapshotState(StrEnum):
    """The state of a snapshot; the values are on the wire (status records, coordinator's API).

    `ordered`: no replica has started to write; in the API only. `failed`: in a status record, this
    attempt has failed; in the API, no further attempt follows. `given_up`: no further attempt
    follows; in status records only. The engine sets neither `ordered` nor `given_up`.
    """

    ORDERED = "ordered"
    WRITING = "writing"
    VERIFYING = "verifying"
    DONE = "done"
    FAILED = "failed"
    GIVEN_UP = "given_up"


class ReadError(StrEnum):
    """Why a query is refused; the values are on the wire (HTTP)."""

    NOT_LEADER = "not_leader"
    NOT_READY = "not_ready"
    BEHIND = "behind"


@dataclass(frozen=True)
class Identity:
    """Who a replica is.

    `replica`: its configured name; `incarnation`: unique for every start and every rebuild;
    `address`: its tripwire, host:port; `place`: which shard of how many.
    """

    replica: str
    incarnation: str
    address: str
    place: ShardPlace
