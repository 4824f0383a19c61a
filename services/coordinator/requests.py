"""What the coordinator is asked, and the problems that it answers with."""

from __future__ import annotations

import msgspec

from services import problems

TITLES: problems.Titles = {
    "unauthorized": (401, "A token is needed"),
    "unknown-snapshot": (404, "There is no such snapshot"),
    "no-standby": (409, "No replica can do that now"),
    "no-leader": (409, "The shard has no leader now"),
    "unavailable": (503, "Kafka or the snapshot store cannot be reached"),
}


class SnapshotRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /api/v1/snapshots`; without a shard: all of them."""

    shard: int | None = None
    allow_leader: bool = False


class HandoverRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /api/v1/handover`."""

    shard: int = 0
    successor: str | None = None
