"""The other ports of a shard process: clock, inbox, observer, tripwire."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from postjournal.core import messages as m
from postjournal.ports import Observation
from tests.simulation.event_loop import MS

if TYPE_CHECKING:
    from tests.simulation.cluster import SimulatedCluster
    from tests.simulation.host import Host
    from tests.simulation.shard_process import ShardProcess

WALL_AT_START_MS = 1_700_000_000_000


class SimClock:
    """A host's clocks: the monotonic one drifts and jumps ahead, the wall clock jumps both ways."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def monotonic_ms(self) -> int:
        return self._host.monotonic_ms()

    def wall_ms(self) -> int:
        host = self._host
        wall_ms = WALL_AT_START_MS + host.clock_us() // MS + host.wall_offset_ms
        return wall_ms - wall_ms % host.cluster.profile.wall_grain_ms


class SimInbox:
    """Queries, handovers and stop requests; replies go to the audit."""

    def __init__(self, host: Host, shard: int, wake: Callable[[], None]) -> None:
        self._host, self._shard, self._wake = host, shard, wake
        self._waiting: list[m.Message] = []

    def put(self, message: m.Message) -> None:
        self._waiting.append(message)
        self._wake()

    def poll(self) -> Sequence[m.Message]:
        waiting, self._waiting = self._waiting, []
        return waiting

    @property
    def is_empty(self) -> bool:
        return not self._waiting

    def reply(self, token: Any, result: object, seq: int, epoch: int, error: str | None) -> None:
        self._host.perform("reply", self._reply, token, result, seq, epoch, error)

    def _reply(self, token: int, result: object, seq: int, epoch: int, error: str | None) -> None:
        cluster = self._host.cluster
        answer = None if result is None else msgspec.json.decode(msgspec.json.encode(result))
        cluster.loop.trace(self._host.name, "answers %d: %s at %d, %s", token, answer, seq, error)
        cluster.audit.on_reply(token, answer, seq, error)


class SimObserver:
    """Counts and traces the events of one replica."""

    def __init__(self, host: Host, shard: int) -> None:
        self._host, self._shard = host, shard

    def observe(self, event: Observation) -> None:
        cluster = self._host.cluster
        if isinstance(event, m.TookOver):
            cluster.coverage.hit("takeovers")
            if self._host.processes[self._shard].snapshots.is_taking:
                cluster.coverage.hit("snapshots across a takeover")
            cluster.coverage.hit(f"takeovers: {event.cause}")
        elif isinstance(event, m.RoleChanged):
            self._host.processes[self._shard].liveness.on_role(event)
            if event.role == "standby" and event.reason.startswith("own "):
                cluster.coverage.hit("void own records, no rebuild")
        elif isinstance(event, m.SnapshotProgressed) and event.state == "failed":
            if event.error != "injected fault":
                cluster.coverage.hit("snapshot requests refused")
        elif isinstance(event, m.Impaired):
            cluster.coverage.hit("impairments")
            self._host.processes[self._shard].liveness.on_impaired(event)
        elif isinstance(event, m.RecordVoid):
            cluster.audit.shards[self._shard].every_replica_agrees_that_a_record_is_void(event)
        cluster.loop.trace(self._host.name, "observes %s", event)


class SimTripwire:
    """One replica's connection to its leader's host."""

    def __init__(
        self,
        host: Host,
        tripwires: Tripwires,
        wake: Callable[[], None],
        on_delivered: Callable[[m.Message], None],
    ) -> None:
        """`on_delivered(message)` is called when the process receives a message."""
        self._on_delivered = on_delivered
        self._host, self._tripwires, self._wake = host, tripwires, wake
        self._waiting: list[m.Message] = []
        self.ticket = 0
        self.address: str | None = None
        self.incarnation, self.epoch = "", 0
        self.start_count = 0  # start of the host at `address` that the connection was made to
        tripwires.all.append(self)

    def watch(self, address: str, incarnation: str, epoch: int) -> None:
        self._host.perform("watch", self._watch, address, incarnation, epoch)

    def _watch(self, address: str, incarnation: str, epoch: int) -> None:
        self._unwatch()
        self.address, self.incarnation, self.epoch = address, incarnation, epoch
        self._tripwires.connect(self)

    def unwatch(self) -> None:
        self._host.perform("unwatch", self._unwatch)

    def _unwatch(self) -> None:
        """A message that is queued already is still delivered, as by a concurrent thread."""
        self.ticket += 1
        self.address = None

    def poll(self) -> Sequence[m.Message]:
        waiting, self._waiting = self._waiting, []
        for message in waiting:
            self._on_delivered(message)
        return waiting

    @property
    def is_empty(self) -> bool:
        return not self._waiting

    def fire(self) -> None:
        """The connection closed and a reconnect failed; the host may be running all the same."""
        self._waiting.append(m.TripwireFired(self.epoch))
        self.address = None
        self._wake()

    def end(self) -> None:
        self._unwatch()
        self._tripwires.all.remove(self)


class Tripwires:
    """All tripwire connections between hosts, and the rows that are sent over them."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self.all: list[SimTripwire] = []

    def connect(self, tripwire: SimTripwire) -> None:
        """A connection to a host that is down fires as well, and so does a row that is dead."""
        target = self._target(tripwire)
        tripwire.start_count = target.start_count
        if not target.alive:
            self._fire_after(tripwire, 10 * MS)
        elif not self._is_alive(tripwire):
            self._cluster.coverage.hit("rows that were dead already")
            self._fire_after(tripwire, self._cluster.loop.uniform(0, 5 * MS))

    def _is_alive(self, tripwire: SimTripwire) -> bool:
        return any(
            not process.ended and process.runtime.replica.incarnation == tripwire.incarnation
            for process in self._target(tripwire).processes
        )

    def on_engine_end(self, process: ShardProcess) -> None:
        """An incarnation is dead: its rows are sent back."""
        incarnation = process.runtime.replica.incarnation
        for tripwire in self.all:
            if tripwire.address == process.host.address and tripwire.incarnation == incarnation:
                self._notice(tripwire)

    def on_end(self, host: Host) -> None:
        """A host's sockets close; its peers notice soon, late or never."""
        for tripwire in self.all:
            if tripwire.address == host.address and tripwire.start_count == host.start_count:
                self._notice(tripwire)

    def _notice(self, tripwire: SimTripwire) -> None:
        loop, fault_probability = self._cluster.loop, self._cluster.fault_probability
        delay_us = loop.uniform(0, 5 * MS)
        if loop.chance(fault_probability("tripwire_never")):
            self._cluster.coverage.hit("missing tripwires")
            return
        if loop.chance(fault_probability("tripwire_late")):
            self._cluster.coverage.hit("late tripwires")
            delay_us = loop.uniform(20 * MS, 1_500 * MS)
        self._fire_after(tripwire, delay_us)

    def fire_falsely(self) -> None:
        """Break one connection although the host at its other end is running."""
        tripwires = [w for w in self.all if w.address is not None and self._target(w).alive]
        if tripwires:
            self._cluster.coverage.hit("false tripwires")
            self._cluster.loop.random.choice(tripwires).fire()

    def fire_all(self, host: Host) -> None:
        """Break all connections to a running host at once."""
        tripwires = [tripwire for tripwire in self.all if tripwire.address == host.address]
        if tripwires and host.alive:
            self._cluster.coverage.hit("false tripwires", len(tripwires))
            for tripwire in tripwires:
                tripwire.fire()

    def _fire_after(self, tripwire: SimTripwire, delay_us: int) -> None:
        self._cluster.loop.after(delay_us, self._reconnect, tripwire, tripwire.ticket)

    def _reconnect(self, tripwire: SimTripwire, ticket: int) -> None:
        if ticket != tripwire.ticket or tripwire.address is None:
            return
        target = self._target(tripwire)
        if target.alive and self._is_alive(tripwire):
            tripwire.start_count = target.start_count
            return
        if target.alive:
            self._cluster.coverage.hit("tripwires after a restart")
        tripwire.fire()

    def _target(self, tripwire: SimTripwire) -> Host:
        return next(host for host in self._cluster.hosts if host.address == tripwire.address)
