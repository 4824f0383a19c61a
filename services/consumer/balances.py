"""SINK=balances: the balances of all accounts in Redis, equal to those in the topic."""

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
        """The next outputs; waits up to `timeout_s` seconds for the first."""

    def positions(self) -> dict[int, Position]:
        """Partition → the position after them, where it has moved."""

    def note_saved(self) -> None:
        """The caller has saved these positions."""

    def reload(self) -> None:
        """Go back to the saved positions."""


class Projection(PositionStore, Protocol):
    """A store that keeps balances and positions together."""

    def write(self, shard: int, balances: dict[str, int], position: Position) -> None:
        """Write both or none."""

    def verify(self) -> None:
        """Raises `PositionMoved` when the stored positions are not those written last."""

    def forget(self, shards: int) -> None:
        """Delete the balances and positions of `shards` shards."""


_decode = msgspec.json.Decoder(BalanceChanged).decode


class BalancesUpdater:
    """Writes batches of the topic into the projection, in one transaction per batch and shard.

    After any failure it goes back to the position that Redis holds: the balances that belong to
    that position are stored with it, so that nothing is lost or counted twice.
    """

    def __init__(self, source: Source, projection: Projection, shards: int, what: str) -> None:
        """`what` names the store in the log."""
        self._source, self._projection, self._shards = source, projection, shards
        self._outage = Outage(what, log)

    def run(self, stop: Event) -> None:
        """Run until `stop` is set. Raises `SequenceGap`: what the topic lost cannot be rebuilt."""
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
            log.warning("%s; continuing from the position that Redis holds", error)
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
        if not moved:  # else a wipe is not noticed before the next payment
            self._projection.verify()
        self._source.note_saved()
        self._outage.end()

    def _rebuild(self, error: RecordsMissing) -> None:
        """Redis holds the balances of another topic: the topic's are the right ones."""
        log.error("the projection does not match the topic: %s; rebuilding it", error)
        try:
            self._projection.forget(self._shards)
        except redis.RedisError as failure:
            self._outage.start(str(failure))
