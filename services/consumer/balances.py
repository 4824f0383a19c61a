"""SINK=balances: projects the balances topic into Redis."""

from __future__ import annotations

import logging
from collections import defaultdict
from threading import Event
from typing import Protocol

import msgspec
import redis

from postjournal.adapters.outage import Outage
from postjournal.adapters.redis.projection import PositionMoved
from postjournal.core.errors import RecordsMissing
from postjournal.core.sequence import Position, PositionStore, Received

log = logging.getLogger(__name__)

POLL_S = 0.5
RETRY_S = 0.2


class BalanceChanged(msgspec.Struct):
    """The fields of an output of the balances sink that the projection needs."""

    account: str
    balance: int


class Source(Protocol):
    """The part of `Subscription` that the updater uses."""

    def poll(self, timeout_s: float) -> list[Received]:
        """The next outputs, at most after `timeout_s`."""

    def positions(self) -> dict[int, Position]:
        """Partition → position after the polled outputs, where it is not saved yet."""

    def note_saved(self) -> None:
        """Note that the positions are saved."""

    def reload(self) -> None:
        """Continue from the saved positions."""


class Projection(PositionStore, Protocol):
    """Stores balances and positions together."""

    def write(self, shard: int, balances: dict[str, int], position: Position) -> None:
        """Write both in one transaction. Raises `PositionMoved` and `redis.RedisError`."""

    def verify(self) -> None:
        """Raises `PositionMoved` when the positions are not those written last."""

    def forget(self, shards: int) -> None:
        """Delete all balances and positions."""


_decode = msgspec.json.Decoder(BalanceChanged).decode


class BalancesUpdater:
    """Writes batches from the topic into the projection, in one transaction per shard.

    After any error it continues from the position that Redis holds: Redis has the balances of
    exactly that position, so no output is lost or counted twice.
    """

    def __init__(
        self, source: Source, projection: Projection, shards: int, store_name: str
    ) -> None:
        """`store_name`: for the log."""
        self._source, self._projection, self._shards = source, projection, shards
        self._outage = Outage(store_name, log)

    def run(self, stop: Event) -> None:
        """Run until `stop` is set. Raises `SequenceGap`: lost outputs cannot be rebuilt."""
        while not stop.is_set():
            if not self.step(POLL_S):
                stop.wait(RETRY_S)

    def step(self, timeout_s: float) -> bool:
        """Write one batch; False when the caller must retry later. Raises `SequenceGap`."""
        try:
            self._write_batch(timeout_s)
        except redis.RedisError as error:
            self._outage.begin(str(error))
        except PositionMoved as error:
            log.warning("%s: continuing from the position in Redis", error)
        except RecordsMissing as error:
            self._rebuild(error)
        else:
            return True
        self._source.reload()
        return False

    def _write_batch(self, timeout_s: float) -> None:
        batch = self._source.poll(timeout_s)
        changed: defaultdict[int, dict[str, int]] = defaultdict(dict)
        for output in batch:
            change = _decode(output.value)
            changed[output.partition][change.account] = change.balance
        moved = self._source.positions()
        for shard, position in moved.items():
            self._projection.write(shard, changed[shard], position)
        if not moved:  # notice a wiped Redis also while there are no new outputs
            self._projection.verify()
        self._source.note_saved()
        self._outage.end()

    def _rebuild(self, error: RecordsMissing) -> None:
        """The position in Redis is of a topic that was recreated or trimmed: start again."""
        log.error("the projection does not match the topic: %s; rebuilding it", error)
        try:
            self._projection.forget(self._shards)
        except redis.RedisError as away:
            self._outage.begin(str(away))
