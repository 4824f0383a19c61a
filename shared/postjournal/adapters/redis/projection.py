"""Balances in Redis, together with the position in the topic that they belong to.

Keys: `<namespace>:balances:<shard>`, a hash of account → balance, and
`<namespace>:balances:<shard>:position`, a hash of `seq` and `offset`. Both change in one
MULTI/EXEC, so a balance is never in Redis without the position that accounts for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis

from postjournal.core.sequence import Position


class PositionMoved(Exception):
    """Redis holds a position other than the one written last: it was wiped, restored or shared."""


class BalancesProjection:
    """A `PositionStore` that also stores the balances.

    All methods raise `redis.RedisError` when Redis is unavailable.
    """

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        """`namespace`: the prefix of the keys."""
        self._redis, self._namespace = client, namespace
        self._known: dict[int, Position | None] = {}

    def load(self, partition: int) -> Position | None:
        """The position that the balances of this shard belong to; None: rebuild the balances."""
        position = _position(self._redis.hgetall(self._position_key(partition)))
        self._known[partition] = position
        return position

    def save(self, positions: Mapping[int, Position]) -> None:
        """Write the positions (shard → position), one transaction per shard."""
        for partition, position in positions.items():
            self.write(partition, {}, position)

    def write(self, shard: int, balances: Mapping[str, int], position: Position) -> None:
        """Balances (account → balance, minor units) and position in one transaction.

        Raises `PositionMoved`, without having written anything, unless Redis still holds the
        position that this object read or wrote last. After a `redis.RedisError` the write may
        have taken place: `load` finds out.
        """
        balances_key, position_key = self._balances_key(shard), self._position_key(shard)
        known = self._known[shard]
        pipe: Any  # redis-py's types do not distinguish reads after WATCH from queued commands
        with self._redis.pipeline(transaction=True) as pipe:
            try:
                pipe.watch(position_key)
                if _position(pipe.hgetall(position_key)) != known:
                    raise PositionMoved(f"{position_key} is no longer {known}")
                pipe.multi()
                if known is None:  # what a wipe has left belongs to no known position
                    pipe.delete(balances_key)
                if balances:
                    pipe.hset(balances_key, mapping=dict(balances))
                pipe.hset(
                    position_key,
                    mapping={"seq": position.last_seq, "offset": position.next_offset},
                )
                pipe.execute()
            except redis.WatchError as error:
                raise PositionMoved(f"{position_key} was written by another client") from error
        self._known[shard] = position

    def verify(self) -> None:
        """Raises `PositionMoved` when Redis does not hold what was read or written last."""
        for shard, known in self._known.items():
            found = _position(self._redis.hgetall(self._position_key(shard)))
            if found != known:
                raise PositionMoved(f"{self._position_key(shard)} is {found} instead of {known}")

    def forget(self, shards: int) -> None:
        """Delete balances and positions, so that they are rebuilt from the topic's beginning."""
        for shard in range(shards):
            self._redis.delete(self._balances_key(shard), self._position_key(shard))

    def _balances_key(self, shard: int) -> str:
        return f"{self._namespace}:balances:{shard}"

    def _position_key(self, shard: int) -> str:
        return f"{self._balances_key(shard)}:position"


def _position(fields: object) -> Position | None:
    assert isinstance(fields, dict)
    if not fields:
        return None
    return Position(next_offset=int(fields["offset"]), last_seq=int(fields["seq"]))
