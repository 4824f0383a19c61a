"""The request bodies of the coordinator's API."""

from __future__ import annotations

import msgspec


class SnapshotRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /api/v1/snapshots`. `shard` null or absent: a snapshot of every shard.

    `allow_leader`: whether the leader may take it where there is no standby.
    """

    shard: int | None = None
    allow_leader: bool = False


class HandoverRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /api/v1/handover`. `successor` null or absent: any standby."""

    shard: int = 0
    successor: str | None = None


class CrashRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /api/v1/crash`. `replica`: the name of the replica to kill."""

    replica: str
