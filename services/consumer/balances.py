"""SINK=balances: keeps the balances of all accounts in Redis, equal to those in the topic."""

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
    """What the updater needs of a `Subscription`."""

    def poll(self, timeout_s: float) -> list[Received]:
        """Return the next outputs; wait up to `timeout_s` seconds for the first."""

    def positions(self) -> dict[int, Position]:
        """Return partition → position after the outputs, for positions that are not saved."""

    def note_saved(self) -> None:
        """Note that the caller has saved these positions."""

    def reload(self) -> None:
        """Continue at the saved positions."""


class Projection(PositionStore, Protocol):
    """A store of balances together with positions; all methods raise `redis.RedisError`."""

    def write(self, shard: int, balances: dict[str, int], position: Position) -> None:
        """Write both or neither. Raises `PositionMoved` like `verify`."""

    def verify(self) -> None:
        """Raise `PositionMoved` when the stored positions are not those written last."""

    def forget(self, shards: int) -> None:
        """Delete the balances and positions of `shards` shards."""


_decode = msgspec.json.Decoder(BalanceChanged).decode


class BalancesUpdater:
    """Writes batches of the topic into the projection, in one transaction per batch and shard.

    After any failure it continues at the position in Redis, which is stored together with its
    balances, so nothing is lost or counted twice.
    """

    def __init__(self, source: Source, projection: Projection, shards: int, store: str) -> None:
        """`store`: the projection's name in the log."""
        self._source, self._projection, self._shards = source, projection, shards
        self._outage = Outage(store, log)

    def run(self, stop: Event) -> None:
        """Run until `stop` is set. Raises `SequenceGap` when the topic has lost outputs."""
        while not stop.is_set():
            if not self.step(POLL_S):
                stop.wait(RETRY_S)

    def step(self, timeout_s: float) -> bool:
        """Process one batch; False when it must be retried later. Raises `SequenceGap`."""
        try:
            self._process(timeout_s)
        except redis.RedisError as error:
            self._outage.start(str(error))
        except PositionMoved as error:
            log.warning("%s; continuing at the position in Redis", error)
        except RecordsMissing as error:
            self._rebuild(error)
        else:
            return True
        self._source.reload()
        return False

    def _process(self, timeout_s: float) -> None:
        batch = self._source.poll(timeout_s)
        changed: defaultdict[int, dict[str, int]] = defaultdict(dict)
        for output in batch:
            change = _decode(output.value)
            changed[output.partition][change.account] = change.balance
        moved = self._source.positions()
        for shard, position in moved.items():
            self._projection.write(shard, changed[shard], position)
        if not moved:  # otherwise a wiped Redis is not detected before the next payment
            self._projection.verify()
        self._source.note_saved()
        self._outage.end()

    def _rebuild(self, error: RecordsMissing) -> None:
        """Redis has the balances of another topic; the balances in the topic are correct."""
        log.error("the projection does not match the topic: %s; rebuilding the projection", error)
        try:
            self._projection.forget(self._shards)
        except redis.RedisError as failure:
            self._outage.start(str(failure))
