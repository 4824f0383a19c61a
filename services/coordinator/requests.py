"""What the coordinator is asked, and the problems that it answers with."""

from __future__ import annotations

import msgspec

from services import problems

TITLES: problems.Titles = {
    "unauthorized": (401, "A token is needed"),
    "cross-site": (403, "Pages of other sites may not do that"),
    "not-allowed": (403, "The configuration does not allow that"),
    "unknown-snapshot": (404, "There is no such snapshot"),
    "no-such-point": (404, "The state at that point cannot be had"),
    "no-standby": (409, "No replica can do that now"),
    "no-leader": (409, "The shard has no leader now"),
    "too-busy": (429, "Too much of that is under way"),
    "too-many-pages": (503, "Too many pages are open"),
    "too-slow": (504, "It takes too long to do it here"),
    "query-failed": (500, "The application's query failed"),
    "replay-failed": (500, "The past cannot be worked out as this is configured"),
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


class CrashRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /api/v1/crash`."""

    replica: str
