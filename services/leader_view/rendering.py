"""The cluster view in the form that Redis holds. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from postjournal.adapters.redis.cluster_view import ViewContents
from postjournal.cluster.status import Failover
from postjournal.cluster.view import ClusterView, ReplicaView, ShardView

SHARDS_AT_MOST = 1_000
"""The limit of POSTJOURNAL_SHARDS: combines epoch and shard into one number."""


def render(view: ClusterView, now: int) -> ViewContents:
    """All that Redis must hold at `now`, ms since the Unix epoch."""
    return ViewContents(
        shards={shard: _shard(state) for shard, state in view.shards.items()},
        replicas={
            f"{name}/{shard}": _replica(replica, now)
            for (name, shard), replica in sorted(view.replicas.items())
        },
        failovers=[(stream_id(failover), _failover(failover)) for failover in view.failovers],
    )


def stream_id(failover: Failover) -> str:
    """Derived from the failover itself, so that a second report has the same id."""
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
