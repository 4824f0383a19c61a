"""Renders the cluster view as Redis stores it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from postjournal.adapters.redis.cluster_view import Snapshot
from postjournal.cluster.status import Failover
from postjournal.cluster.view import ClusterView, ReplicaView, ShardView

MAX_SHARDS = 1_000
"""The limit of POSTJOURNAL_SHARDS; combines epoch and shard into one number."""


def render(view: ClusterView, now: int) -> Snapshot:
    """The content of Redis for `view`; `now`: ms since the Unix epoch."""
    return Snapshot(
        shards={shard: _shard(shard_view) for shard, shard_view in view.shards.items()},
        replicas={
            f"{name}/{shard}": _replica(replica_view, now)
            for (name, shard), replica_view in sorted(view.replicas.items())
        },
        failovers=[(stream_id(failover), _failover(failover)) for failover in view.failovers],
    )


def stream_id(failover: Failover) -> str:
    """The id of a failover in the Redis stream; the same each time the failover is read."""
    return f"{failover.time}-{failover.epoch * MAX_SHARDS + failover.shard}"


def _shard(view: ShardView) -> dict[str, str]:
    return _texts({name: getattr(view, name) for name in view.__dataclass_fields__})


def _replica(view: ReplicaView, now: int) -> dict[str, Any]:
    return {
        **msgspec.to_builtins(view.status),
        "silent": view.is_silent(now),
        "duplicate_name": view.is_duplicate(now),
    }


def _failover(failover: Failover) -> dict[str, str]:
    fields = msgspec.to_builtins(failover)
    del fields["kind"]
    return _texts(fields)


def _texts(fields: Mapping[str, object]) -> dict[str, str]:
    """Hashes and streams of Redis hold only text; None becomes the empty text."""
    return {name: "" if value is None else str(value) for name, value in fields.items()}
