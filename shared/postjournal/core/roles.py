"""What a replica is, and is doing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from postjournal.core.state.state_machine import ShardPlace


class Role(Enum):
    """What a replica is doing; the values are what people see."""

    RESTORING = "restoring"
    CATCHING_UP = "catching_up"
    STANDBY = "standby"
    CLAIMING = "claiming"
    LEADER = "leader"
    RESIGNING = "resigning"
    READER = "reader"
    REBUILDING = "rebuilding"
    STOPPED = "stopped"


class Cause(Enum):
    """Why a standby claims."""

    NO_LEADER = "no_leader"
    RESIGNED = "resigned"
    TRIPWIRE = "tripwire"
    SILENCE = "silence"


@dataclass(frozen=True)
class Identity:
    """Who a replica is: name, this start's unique id, tripwire address (host:port), shard."""

    replica: str
    incarnation: str
    address: str
    place: ShardPlace
