"""All invariants of a run: one `ShardAudit` a shard, and the queries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postjournal.core import messages as m
from postjournal.core.state.outbox import Outputs
from tests.simulation.invariants import ENDED, Query, ShardAudit, must
from tests.simulation.shardlog import Witness
from tests.simulation.whole_state import WholeState

if TYPE_CHECKING:
    from tests.simulation.seat import Seat
    from tests.simulation.world import World

OFTEN = 0.02
"""How often after a turn the slow invariants are checked as well."""


class Audit:
    """What the world tells of everything that happens."""

    def __init__(self, world: World) -> None:
        """For all shards of the world."""
        self._world = world
        self.shards = [ShardAudit(world, shard) for shard in range(world.profile.shards)]
        self.queries: list[Query] = []
        self._whole: dict[int, WholeState] = {}

    def after_turn(self, seat: Seat) -> None:
        """A replica has taken in what came."""
        shard = self.shards[seat.topics.shard]
        shard.after_turn(seat)
        if seat.host.paused_until_us is None:
            seat.conduct.after_turn()
        if self._world.kernel.random.random() < OFTEN:
            self.thorough(seat)

    def thorough(self, seat: Seat, *, final: bool = False) -> None:
        """The slow checks, and at the end those that may disturb.

        They need a replica that has read and decided just what is there.
        """
        shard, replica = self.shards[seat.topics.shard], seat.replica
        if replica.role in ENDED:
            return
        if replica.leadership is None or not replica.leadership.inflight:
            shard.every_replica_folds_every_prefix_the_same(replica)
            shard.state_follows_from_the_journal(replica)
            shard.what_is_published_is_forgotten(seat)
            self.whole(shard.shard).a_replica_is_the_journal_up_to_its_position(replica)
        if replica.position != len(shard.points) - 1:
            return
        if replica.leadership is None or not replica.leadership.inflight:
            shard.nothing_is_missing_in_memory(replica)
            if final:
                shard.what_is_not_published_can_be(replica)

    def whole(self, shard: int) -> WholeState:
        """What concerns snapshots."""
        if shard not in self._whole:
            self._whole[shard] = WholeState(self._world, shard)
        return self._whole[shard]

    def ask(self, query: Query) -> int:
        """A query comes; returns its token."""
        self.queries.append(query)
        return len(self.queries) - 1

    def on_reply(self, token: int, result: object, seq: int, error: str | None) -> None:
        """A query is answered, or refused."""
        query = self.queries[token]
        must(not query.answered, "a_query_is_answered_once", "query %d", token)
        query.answered, query.error, query.seq = True, error, seq
        hit = self._world.coverage.hit
        if error is not None:
            must(error in ("not_leader", "not_ready", "behind"), "errors_are_known", "%s", error)
            if query.linearizable:
                hit("linearizable answers refused")
            return
        hit("linearizable answers" if query.linearizable else "other answers")
        self.shards[query.shard].on_reply(query, result, seq)

    def unanswered(self) -> list[Query]:
        """Queries to processes that still live."""
        lives = {host.name: host.life for host in self._world.hosts if host.alive}
        return [q for q in self.queries if not q.answered and lives.get(q.host) == q.life]


class SeatWitness(Witness):
    """Sees what one replica asks of its log."""

    def __init__(self, audit: Audit, seat: Seat) -> None:
        """For the replica in `seat`."""
        self._audit, self._seat = audit, seat

    @property
    def _shard(self) -> ShardAudit:
        return self._audit.shards[self._seat.topics.shard]

    def on_append(self, value: bytes) -> None:
        """See `Witness`."""
        self._seat.conduct.on_append(value)

    def on_claim(self, value: bytes) -> None:
        """See `Witness`."""
        self._seat.conduct.on_claim(value)

    def on_publish(self, sink: str, outputs: Outputs, tail: int) -> None:
        """See `Witness`."""
        mark = self._shard.marks.get(self._seat.conduct.led_epoch, {}).get(sink, 0)
        self._shard.on_publish(sink, outputs, max(tail, mark))

    def on_told(self, message: m.Message) -> None:
        """See `Witness`."""
        self._seat.conduct.on_told(message)

    def on_open(self, offset: int) -> None:
        """See `Witness`."""
        self._seat.conduct.on_open(offset)
