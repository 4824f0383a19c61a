"""All invariants of a run: one `ShardAudit` per shard, and the queries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postjournal.core import messages as m
from postjournal.core.state.outbox import Outputs
from tests.simulation.invariants import ENDED, Query, ShardAudit, must
from tests.simulation.shard_log import LogObserver
from tests.simulation.snapshot_invariants import SnapshotInvariants

if TYPE_CHECKING:
    from tests.simulation.cluster import SimulatedCluster
    from tests.simulation.shard_process import ShardProcess

THOROUGH_CHECK_PROBABILITY = 0.02
"""How often the slow invariants are checked after a turn."""


class Audit:
    """Receives everything that happens in the cluster and checks the invariants."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self.shards = [ShardAudit(cluster, shard) for shard in range(cluster.profile.shards)]
        self.queries: list[Query] = []
        self._snapshots: dict[int, SnapshotInvariants] = {}

    def after_turn(self, process: ShardProcess) -> None:
        """The process has taken a turn."""
        shard = self.shards[process.topics.shard]
        shard.after_turn(process)
        if process.host.paused_until_us is None:
            process.liveness.after_turn()
        if self._cluster.loop.random.random() < THOROUGH_CHECK_PROBABILITY:
            self.thorough(process)

    def thorough(self, process: ShardProcess, *, final: bool = False) -> None:
        """Check the slow invariants; if `final`, also those whose check changes the replica.

        They need a replica that has read the whole journal and has nothing in flight.
        """
        shard, replica = self.shards[process.topics.shard], process.replica
        if replica.role in ENDED:
            return
        if replica.leadership is None or not replica.leadership.inflight:
            shard.every_replica_folds_a_prefix_to_the_same_state(replica)
            shard.state_follows_from_the_journal(replica)
            shard.published_outputs_are_dropped(process)
            self.snapshots(shard.shard).a_replica_equals_the_journal_up_to_its_position(replica)
        if replica.position != len(shard.points) - 1:
            return
        if replica.leadership is None or not replica.leadership.inflight:
            shard.the_dedupe_window_matches_the_reference(replica)
            if final:
                shard.unpublished_outputs_are_available(replica)

    def snapshots(self, shard: int) -> SnapshotInvariants:
        """The invariants of a shard's snapshots."""
        if shard not in self._snapshots:
            self._snapshots[shard] = SnapshotInvariants(self._cluster, shard)
        return self._snapshots[shard]

    def on_query(self, query: Query) -> int:
        """Record a query and return its token."""
        self.queries.append(query)
        return len(self.queries) - 1

    def on_reply(self, token: int, result: object, seq: int, error: str | None) -> None:
        """A query is answered or refused."""
        query = self.queries[token]
        must(not query.answered, "a_query_is_answered_once", "query %d", token)
        query.answered, query.error, query.seq = True, error, seq
        hit = self._cluster.coverage.hit
        if error is not None:
            must(error in ("not_leader", "not_ready", "behind"), "errors_are_known", "%s", error)
            if query.linearizable:
                hit("linearizable queries refused")
            return
        hit("linearizable answers" if query.linearizable else "answers of any replica")
        self.shards[query.shard].on_reply(query, result, seq)

    def unanswered(self) -> list[Query]:
        """Queries to hosts that still run."""
        hosts = {host.name: host for host in self._cluster.hosts}
        return [
            query
            for query in self.queries
            if not query.answered and hosts[query.host].life_of(query.shard) == query.life
        ]


class ProcessLogObserver(LogObserver):
    """Passes what one replica does with its log to the invariants."""

    def __init__(self, audit: Audit, process: ShardProcess) -> None:
        self._audit, self._process = audit, process

    @property
    def _shard(self) -> ShardAudit:
        return self._audit.shards[self._process.topics.shard]

    def on_append(self, value: bytes) -> None:
        self._process.liveness.on_append(value)

    def on_claim(self, value: bytes) -> None:
        self._process.liveness.on_claim(value)

    def on_publish(self, sink: str, outputs: Outputs, tail: int) -> None:
        mark = self._shard.marks.get(self._process.liveness.led_epoch, {}).get(sink, 0)
        self._shard.on_publish(sink, outputs, max(tail, mark))

    def on_delivered(self, message: m.Message) -> None:
        self._process.liveness.on_delivered(message)

    def on_open(self, offset: int) -> None:
        self._process.liveness.on_open(offset)
