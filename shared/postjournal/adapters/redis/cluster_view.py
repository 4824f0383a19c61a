"""The view of the cluster in Redis: written only, decided from by nobody.

Keys, `<ns>` being the namespace:
- `<ns>:shard:<n>`, hash: leader, address, http, epoch, since, state, seq, digest
- `<ns>:replicas`, hash: `<replica>/<shard>` → JSON
- `<ns>:failovers`, stream of the last 1,000
- `<ns>:changes`, pub/sub channel of JSON messages

Each `sync` reads what is there and writes the difference, so it does not matter whether Redis
was wiped, restarted or written by another instance of the view.
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
"""A difference in one of these is worth a message; counters are not."""


@dataclass(frozen=True)
class Snapshot:
    """What Redis shall hold. All ready to be written; failovers: (stream id, fields), ascending."""

    shards: Mapping[int, Mapping[str, str]]
    replicas: Mapping[str, Mapping[str, Any]]
    failovers: Sequence[tuple[str, Mapping[str, str]]]


class RedisView:
    """Raises `redis.RedisError` when Redis is away; the next `sync` makes up for it."""

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        """`namespace`: the prefix of the keys."""
        self._redis = client
        self._shard_prefix = f"{namespace}:shard:"
        self._replicas = f"{namespace}:replicas"
        self._failovers = f"{namespace}:failovers"
        self._channel = f"{namespace}:changes"

    def sync(self, snapshot: Snapshot) -> None:
        """Make Redis hold `snapshot`, all at once, and publish what has changed."""
        pipe: Any  # redis-py's types do not tell the reads after WATCH from queued commands
        with self._redis.pipeline(transaction=True) as pipe:
            # Another instance that writes the same failover must not make ours fail halfway.
            pipe.watch(self._failovers)
            shards = {n: pipe.hgetall(f"{self._shard_prefix}{n}") for n in snapshot.shards}
            replicas = pipe.hgetall(self._replicas)
            last, count = self._stream(pipe)
            pipe.multi()
            changes = self._write_shards(pipe, snapshot.shards, shards)
            changes += self._write_replicas(pipe, snapshot.replicas, replicas)
            changes += self._write_failovers(pipe, snapshot.failovers, last, count)
            for change in changes:
                pipe.publish(self._channel, msgspec.json.encode(change))
            pipe.execute()

    def _stream(self, pipe: Any) -> tuple[str, int]:
        newest = pipe.xrevrange(self._failovers, count=1)
        return (newest[0][0] if newest else "0-0"), pipe.xlen(self._failovers)

    def _write_shards(
        self, pipe: Any, shards: Mapping[int, Mapping[str, str]], there: Mapping[int, Any]
    ) -> list[Any]:
        changes = []
        for shard, fields in shards.items():
            if fields == there[shard]:
                continue
            pipe.hset(f"{self._shard_prefix}{shard}", mapping=dict(fields))
            if any(fields[name] != there[shard].get(name) for name in SHARD_CHANGES):
                changes.append({"kind": "shard", "shard": shard, **fields})
        return changes

    def _write_replicas(
        self, pipe: Any, replicas: Mapping[str, Mapping[str, Any]], there: Mapping[str, str]
    ) -> list[Any]:
        gone = [name for name in there if name not in replicas]
        if gone:
            pipe.hdel(self._replicas, *gone)
        changes: list[Any] = [{"kind": "replica_gone", "name": name} for name in gone]
        for name, value in replicas.items():
            encoded = msgspec.json.encode(value).decode()
            if encoded == there.get(name):
                continue
            pipe.hset(self._replicas, name, encoded)
            if _is_notable(value, there.get(name)):
                changes.append({"kind": "replica", "name": name, **value})
        return changes

    def _write_failovers(
        self,
        pipe: Any,
        failovers: Sequence[tuple[str, Mapping[str, str]]],
        last: str,
        count: int,
    ) -> list[Any]:
        """Append what is newer; when that would not give the right stream, write it anew."""
        new = [each for each in failovers if _order(each[0]) > _order(last)]
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
    except UNREADABLE:  # somebody else's
        return True
    return any(new.get(name) != before.get(name) for name in REPLICA_CHANGES)
