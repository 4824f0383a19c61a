"""The cluster view as Redis shall hold it. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from postjournal.adapters.redis.cluster_view import Snapshot
from postjournal.cluster.status import Failover
from postjournal.cluster.view import ClusterView, ReplicaView, ShardView

SHARDS_AT_MOST = 1_000
"""As POSTJOURNAL_SHARDS is bounded: makes one number of epoch and shard."""


def render(view: ClusterView, now: int) -> Snapshot:
    """`now`: ms since the Unix epoch."""
    return Snapshot(
        shards={shard: _shard(each) for shard, each in view.shards.items()},
        replicas={
            f"{name}/{shard}": _replica(each, now)
            for (name, shard), each in sorted(view.replicas.items())
        },
        failovers=[(stream_id(each), _failover(each)) for each in view.failovers],
    )


def stream_id(failover: Failover) -> str:
    """Made of what the failover is, so that telling it again gives the same id."""
    return f"{failover.time}-{failover.epoch * SHARDS_AT_MOST + failover.shard}"


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
