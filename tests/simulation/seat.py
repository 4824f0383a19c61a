"""One shard's runtime in one process: what is a thread in production."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from postjournal.core.replica import Replica
from postjournal.core.roles import Identity
from postjournal.core.sharding import ShardPlace
from postjournal.runtime import Runtime, ShardPorts
from tests.simulation.application import SimLedger
from tests.simulation.audit import SeatWitness
from tests.simulation.broker import ShardTopics
from tests.simulation.conduct import Conduct
from tests.simulation.ports import SimClock, SimInbox, SimObserver, SimTripwire
from tests.simulation.shardlog import SimShardLog
from tests.simulation.snapshots import SimSnapshots

if TYPE_CHECKING:
    from tests.simulation.host import Host

_APPLICATION = SimLedger()


class Seat:
    """The production runtime over simulated ports, and when it turns.

    It turns soon after something is ready, and now and then when nothing is.
    """

    def __init__(self, host: Host, topics: ShardTopics) -> None:
        """Nothing happens before `start`."""
        self.host, self.topics = host, topics
        self._kernel = host.world.kernel
        self._due_us = self._ticket = self._incarnations = 0
        self._ended = False
        self.conduct = Conduct(self)
        self.log = SimShardLog(host, topics, self.wake, SeatWitness(host.world.audit, self))
        self.tripwire = SimTripwire(host, host.world.tripwires, self.wake, self.conduct.on_told)
        self.inbox = SimInbox(host, topics.shard, self.wake)
        self.audited = -1  # the journal position that the audit saw last
        observer = SimObserver(host, topics.shard)
        self.snapshots = SimSnapshots(host, topics, self.wake)
        ports = ShardPorts(
            self.log, self.tripwire, self.inbox, self.snapshots, SimClock(host), observer
        )
        self.runtime = Runtime(self._make_replica, self._new_incarnation, ports)

    @property
    def replica(self) -> Replica[Any, Any, Any]:
        """The incarnation of now."""
        replica = self.runtime.replica
        assert isinstance(replica, Replica)
        return replica

    @property
    def leads(self) -> bool:
        """Whether it believes so."""
        return not self._ended and self.replica.leadership is not None

    def break_sink(self) -> None:
        """A producer of outputs fails for good, with nothing in flight."""
        pipes = list(self.log.sink_pipes.values())
        if self.leads and pipes:
            self._kernel.random.choice(pipes).break_off()

    def start(self) -> None:
        """The runtime's first effects, and its first turn."""
        self.runtime.start()
        self.wake()

    def end(self) -> None:
        """The process is gone."""
        self._ended = True
        self.log.end()
        self.tripwire.end()
        self.snapshots.end()

    def wake(self) -> None:
        """Something is ready: turn soon."""
        if self._kernel.now_us < self._due_us <= self._kernel.now_us + 60:
            return
        self._turn_at(self._kernel.now_us + 20 + self._kernel.spread(60))

    def _turn_at(self, time_us: int) -> None:
        if self._due_us > self._kernel.now_us and time_us >= self._due_us:
            return  # it turns before that anyhow
        self._due_us = time_us
        self._ticket += 1
        self._kernel.at(time_us, self._turn, self._ticket)

    def _turn(self, ticket: int) -> None:
        host = self.host
        if ticket != self._ticket or self._ended or self.runtime.stopped:
            return
        self._due_us = 0
        if host.paused_until_us is not None:
            self._turn_at(host.paused_until_us + 1)
            return
        host.guard(self.runtime.turn)
        if not self._ended:
            host.world.audit.after_turn(self)
            tick_us = host.world.profile.tick_us
            self._turn_at(self._kernel.now_us + tick_us)

    def _new_incarnation(self) -> str:
        self._incarnations += 1
        if self._incarnations > 1:
            self.host.world.coverage.hit("rebuilds")
        return f"{self.host.name}-{self.host.life}.{self._incarnations}"

    def _make_replica(self, incarnation: str) -> Replica[Any, Any, Any]:
        world = self.host.world
        place = ShardPlace(self.topics.shard, world.profile.shards)
        self.audited = -1
        identity = Identity(self.host.replica_name, incarnation, self.host.address, place)
        return Replica(identity, _APPLICATION, world.profile.limits)
