"""The view of the cluster in Redis: it is only written, and no decision depends on it.

Keys, `<ns>` being the namespace:
- `<ns>:shard:<n>`, hash: leader, address, http, epoch, since, state, seq, digest
- `<ns>:replicas`, hash: `<replica>/<shard>` → JSON
- `<ns>:failovers`, stream of the last 1,000
- `<ns>:changes`, pub/sub channel of JSON messages

Each `sync` reads the present values and writes the difference, so that Redis may be wiped,
restarted or written by another instance of the view.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import redis

from postjournal.core.records import UNREADABLE

MAX_LENGTH = 1_000
"""Entries of the failover stream."""

SHARD_CHANGES = ("leader", "epoch", "state")
REPLICA_CHANGES = ("state", "incarnation", "epoch", "leader", "error", "silent", "duplicate_name")
"""Fields whose change is published; counters are not among them."""


@dataclass(frozen=True)
class ViewContents:
    """What Redis must hold.

    `shards`: shard → fields; `replicas`: `<replica>/<shard>` → fields; `failovers`: (stream id,
    fields), ascending by stream id.
    """

    shards: Mapping[int, Mapping[str, str]]
    replicas: Mapping[str, Mapping[str, Any]]
    failovers: Sequence[tuple[str, Mapping[str, str]]]


class RedisView:
    """Raises `redis.RedisError` when Redis is unavailable; the next `sync` catches up."""

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        """`namespace`: the prefix of the keys."""
        self._redis = client
        self._shard_prefix = f"{namespace}:shard:"
        self._replicas = f"{namespace}:replicas"
        self._failovers = f"{namespace}:failovers"
        self._channel = f"{namespace}:changes"

    def sync(self, contents: ViewContents) -> None:
        """Make Redis hold `contents`, in one transaction, and publish what has changed."""
        pipe: Any  # redis-py's types do not distinguish reads after WATCH from queued commands
        with self._redis.pipeline(transaction=True) as pipe:
            # Without WATCH, another instance that writes the same failover makes ours fail halfway.
            pipe.watch(self._failovers)
            shards = {n: pipe.hgetall(f"{self._shard_prefix}{n}") for n in contents.shards}
            replicas = pipe.hgetall(self._replicas)
            last, count = self._stream(pipe)
            pipe.multi()
            changes = self._write_shards(pipe, contents.shards, shards)
            changes += self._write_replicas(pipe, contents.replicas, replicas)
            changes += self._write_failovers(pipe, contents.failovers, last, count)
            for change in changes:
                pipe.publish(self._channel, msgspec.json.encode(change))
            pipe.execute()

    def _stream(self, pipe: Any) -> tuple[str, int]:
        newest = pipe.xrevrange(self._failovers, count=1)
        return (newest[0][0] if newest else "0-0"), pipe.xlen(self._failovers)

    def _write_shards(
        self, pipe: Any, shards: Mapping[int, Mapping[str, str]], existing: Mapping[int, Any]
    ) -> list[Any]:
        changes = []
        for shard, fields in shards.items():
            if fields == existing[shard]:
                continue
            pipe.hset(f"{self._shard_prefix}{shard}", mapping=dict(fields))
            if any(fields[name] != existing[shard].get(name) for name in SHARD_CHANGES):
                changes.append({"kind": "shard", "shard": shard, **fields})
        return changes

    def _write_replicas(
        self, pipe: Any, replicas: Mapping[str, Mapping[str, Any]], existing: Mapping[str, str]
    ) -> list[Any]:
        removed = [name for name in existing if name not in replicas]
        if removed:
            pipe.hdel(self._replicas, *removed)
        changes: list[Any] = [{"kind": "replica_gone", "name": name} for name in removed]
        for name, value in replicas.items():
            encoded = msgspec.json.encode(value).decode()
            if encoded == existing.get(name):
                continue
            pipe.hset(self._replicas, name, encoded)
            if _is_notable(value, existing.get(name)):
                changes.append({"kind": "replica", "name": name, **value})
        return changes

    def _write_failovers(
        self,
        pipe: Any,
        failovers: Sequence[tuple[str, Mapping[str, str]]],
        last: str,
        count: int,
    ) -> list[Any]:
        """Append what is newer; when that does not give the right stream, rewrite the stream."""
        new = [failover for failover in failovers if _order(failover[0]) > _order(last)]
        to_write = new
        if min(count + len(new), MAX_LENGTH) != len(failovers):
            pipe.delete(self._failovers)
            to_write = list(failovers)
        for key, fields in to_write:
            pipe.xadd(self._failovers, dict(fields), id=key, maxlen=MAX_LENGTH, approximate=False)
        return [{"kind": "failover", **fields} for _, fields in new] if count else []


def _order(stream_id: str) -> tuple[int, int]:
    milliseconds, _, number = stream_id.partition("-")
    return int(milliseconds), int(number)


def _is_notable(new: Mapping[str, Any], old: str | None) -> bool:
    try:
        before = msgspec.json.decode(old or "{}", type=dict[str, Any])
    except UNREADABLE:  # written by another program
        return True
    return any(new.get(name) != before.get(name) for name in REPLICA_CHANGES)
