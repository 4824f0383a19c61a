"""One shard's runtime on one host: a thread in production."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from postjournal.core import messages as m
from postjournal.core.liveness.impairment import Impairment
from postjournal.core.replica import Replica
from postjournal.core.roles import Identity
from postjournal.core.sharding import ShardPlace
from postjournal.runtime import FOREVER_MS, Runtime, ShardPorts
from tests.simulation.audit import ProcessLogObserver
from tests.simulation.broker import ShardTopics
from tests.simulation.event_loop import MS
from tests.simulation.liveness import LivenessInvariants
from tests.simulation.ports import SimClock, SimInbox, SimObserver, SimTripwire
from tests.simulation.shard_log import SimShardLog
from tests.simulation.snapshots import SimSnapshots

if TYPE_CHECKING:
    from tests.simulation.host import Host


class ObservedRuntime(Runtime):
    """Counts what happens in a turn: `messages` other than ticks, and their `effects`."""

    messages = effects = 0
    liveness: LivenessInvariants

    def begin_turn(self) -> None:
        self.messages = self.effects = 0

    def _step(self, message: m.Message) -> None:
        self.messages += type(message) is not m.Tick
        self.liveness.before_step(message)
        super()._step(message)
        self.liveness.after_step()

    def _perform(self, effects: list[m.Effect]) -> None:
        self.effects += len(effects)
        super()._perform(effects)


class ShardProcess:
    """The production runtime over simulated ports, and the scheduling of its turns.

    It takes a turn soon after something is ready, or when the engine has announced one.
    """

    def __init__(self, host: Host, topics: ShardTopics) -> None:
        self.host, self.topics = host, topics
        self._loop = host.cluster.loop
        self._due_us = self._ticket = self._incarnations = 0
        self.ended = False
        self._impairment = Impairment()
        self.liveness = LivenessInvariants(self)
        self.log = SimShardLog(
            host, topics, self.wake, ProcessLogObserver(host.cluster.audit, self)
        )
        self.tripwire = SimTripwire(
            host, host.cluster.tripwires, self.wake, self.liveness.on_delivered
        )
        self.inbox = SimInbox(host, topics.shard, self.wake)
        self.audited = -1  # the journal position at which the audit checked it last
        observer = SimObserver(host, topics.shard)
        self.snapshots = SimSnapshots(host, topics, self.wake)
        ports = ShardPorts(
            self.log, self.tripwire, self.inbox, self.snapshots, SimClock(host), observer
        )
        self.runtime = ObservedRuntime(self._make_replica, self._new_incarnation, ports)
        self.runtime.liveness = self.liveness
        self._announced_ms: int | None = None  # the next duty, by the host's clock

    @property
    def replica(self) -> Replica[Any, Any, Any]:
        replica = self.runtime.replica
        assert isinstance(replica, Replica)
        return replica

    @property
    def leads(self) -> bool:
        """Whether the replica itself considers that it leads."""
        return not self.ended and self.replica.leadership is not None

    def break_sink(self) -> None:
        """Fail the producer of a sink fatally, with nothing in flight."""
        producers = list(self.log.sink_producers.values())
        if self.leads and producers:
            self._loop.random.choice(producers).break_off()

    def start(self) -> None:
        self.runtime.start()
        self.wake()

    def end(self) -> None:
        self.ended = True
        self.log.end()
        self.tripwire.end()
        self.snapshots.end()

    def wake(self) -> None:
        """Schedule a turn soon: something is ready."""
        if self._loop.now_us < self._due_us <= self._loop.now_us + 60:
            return
        self._turn_at(self._loop.now_us + 20 + self._loop.exponential(60))

    def _turn_at(self, time_us: int) -> None:
        if self._due_us > self._loop.now_us and time_us >= self._due_us:
            return  # an earlier turn is scheduled
        self._due_us = time_us
        self._ticket += 1
        self._loop.at(time_us, self._turn, self._ticket)

    def _turn(self, ticket: int) -> None:
        host = self.host
        if ticket != self._ticket or self.ended or self.runtime.stopped:
            return
        self._due_us = 0
        if host.paused_until_us is not None:
            self._announced_ms = None  # the clock may have stood still
            self._turn_at(host.paused_until_us + 1)
            return
        announced_ms = self._announced_ms
        is_early = announced_ms is not None and host.monotonic_ms() < announced_ms
        self.runtime.begin_turn()
        host.stepping = self
        host.guard(self.runtime.turn, self.topics.shard)
        if not self.ended:
            if is_early:
                self.liveness.an_engine_announces_what_it_does(self.runtime)
            host.cluster.audit.after_turn(self)
            self._turn_when_due()

    def _turn_when_due(self) -> None:
        """Without a limit, unlike in production: a duty that is not announced is found here."""
        wait_ms, profile = self.runtime.wait_ms(), self.host.cluster.profile
        is_known = self.host.paused_until_us is None and wait_ms > 1  # 1: it is due now
        self._announced_ms = self.host.monotonic_ms() + wait_ms if is_known else None
        if wait_ms < FOREVER_MS:
            late_us = self._loop.uniform(0, profile.late_us)
            self._turn_at(self._loop.now_us + wait_ms * MS + late_us)
        if profile.needless_us:
            self._turn_at(self._loop.now_us + profile.needless_us)

    def _new_incarnation(self) -> str:
        self._incarnations += 1
        if self._incarnations > 1:
            self.host.cluster.coverage.hit("rebuilds")
            self.host.cluster.tripwires.on_engine_end(self)
        start, engine_start = self.host.life_of(self.topics.shard) or (0, 0)
        return f"{self.host.name}-{start}.{engine_start}.{self._incarnations}"

    def _make_replica(self, incarnation: str) -> Replica[Any, Any, Any]:
        cluster = self.host.cluster
        place = ShardPlace(self.topics.shard, cluster.profile.shards)
        self.audited = -1
        identity = Identity(self.host.replica_name, incarnation, self.host.address, place)
        return Replica(
            identity,
            self.host.application,
            cluster.profile.limits,
            self.host.guard_of(self.topics.shard),
            self._impairment,
        )
