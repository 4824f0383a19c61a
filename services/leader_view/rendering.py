"""Renders the cluster view as the contents of Redis. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from postjournal.adapters.redis.cluster_view import ViewContents
from postjournal.cluster.status import Failover
from postjournal.cluster.view import ClusterView, ReplicaView, ShardView

MAX_SHARDS = 1_000
"""The limit of POSTJOURNAL_SHARDS, to combine epoch and shard into one number."""


def render(view: ClusterView, now: int) -> ViewContents:
    """Return all contents of Redis for a view at `now`, ms since the Unix epoch."""
    return ViewContents(
        shards={shard: _shard(state) for shard, state in view.shards.items()},
        replicas={
            f"{name}/{shard}": _replica(replica, now)
            for (name, shard), replica in sorted(view.replicas.items())
        },
        failovers=[(stream_id(failover), _failover(failover)) for failover in view.failovers],
    )


def stream_id(failover: Failover) -> str:
    """Return the id of a failover in the stream, the same for every report of this failover."""
    return f"{failover.time}-{failover.epoch * MAX_SHARDS + failover.shard}"


def _shard(view: ShardView) -> dict[str, str]:
    fields = {name: getattr(view, name) for name in view.__dataclass_fields__}
    return {name: "" if value is None else str(value) for name, value in fields.items()}


def _replica(view: ReplicaView, now: int) -> dict[str, Any]:
    return {
        **msgspec.to_builtins(view.status),
        "silent": view.is_silent(now),
        "duplicate_name": view.is_duplicate(now),
    }


def _failover(failover: Failover) -> dict[str, str]:
    fields = msgspec.to_builtins(failover)
    del fields["kind"]
    return {name: "" if value is None else str(value) for name, value in fields.items()}
