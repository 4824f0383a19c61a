"""SINK=balances: the balances of all accounts in Redis, exactly as the topic has them."""

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
    """What the projection needs of a `Subscription`."""

    def poll(self, timeout_s: float) -> list[Received]:
        """The next outputs."""

    def positions(self) -> dict[int, Position]:
        """The places after them."""

    def note_saved(self) -> None:
        """The places are saved."""

    def reload(self) -> None:
        """Go back to the places saved."""


class Projection(PositionStore, Protocol):
    """Where balances and places are kept together."""

    def write(self, shard: int, balances: dict[str, int], position: Position) -> None:
        """Both or none."""

    def verify(self) -> None:
        """Raises `PositionMoved` when the places are not those written last."""

    def forget(self, shards: int) -> None:
        """Delete everything."""


_decode = msgspec.json.Decoder(BalanceChanged).decode


class BalancesUpdater:
    """Takes batches from the topic into the projection, each in one transaction per shard.

    Whatever goes wrong, it goes back to the position that Redis holds: with that position are
    the balances that belong to it, so nothing is lost and nothing is counted twice.
    """

    def __init__(self, source: Source, projection: Projection, shards: int, what: str) -> None:
        """`what` names the store in the log."""
        self._source, self._projection, self._shards = source, projection, shards
        self._outage = Outage(what, log)

    def run(self, stop: Event) -> None:
        """Until `stop` is set. Raises `SequenceGap`: nobody can rebuild what the topic lost."""
        while not stop.is_set():
            if not self.step(POLL_S):
                stop.wait(RETRY_S)

    def step(self, timeout_s: float) -> bool:
        """One batch; False when it is to be tried again after a moment. Raises `SequenceGap`."""
        try:
            self._take(timeout_s)
        except redis.RedisError as error:
            self._outage.start(str(error))
        except PositionMoved as error:
            log.warning("%s: going on from the position that Redis holds", error)
        except RecordsMissing as error:
            self._rebuild(error)
        else:
            return True
        self._source.reload()
        return False

    def _take(self, timeout_s: float) -> None:
        batch = self._source.poll(timeout_s)
        changed: defaultdict[int, dict[str, int]] = defaultdict(dict)
        for output in batch:
            change = _decode(output.value)
            changed[output.partition][change.account] = change.balance
        moved = self._source.positions()
        for shard, position in moved.items():
            self._projection.write(shard, changed[shard], position)
        if not moved:  # a wipe must not stay unnoticed until the next payment
            self._projection.verify()
        self._source.note_saved()
        self._outage.end()

    def _rebuild(self, error: RecordsMissing) -> None:
        """The topic is the truth: what Redis holds belongs to another one."""
        log.error("the projection does not fit the topic: %s; rebuilding it", error)
        try:
            self._projection.forget(self._shards)
        except redis.RedisError as away:
            self._outage.start(str(away))
