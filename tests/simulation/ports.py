"""The other ports of a simulated process: clock, inbox, observer, tripwires."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from postjournal.core import messages as m
from postjournal.ports import Event
from tests.simulation.event_loop import MS

if TYPE_CHECKING:
    from tests.simulation.cluster import SimulatedCluster
    from tests.simulation.host import Host

WALL_AT_START_MS = 1_700_000_000_000


class SimClock:
    """A process's clocks: the monotonic one drifts and leaps, the wall clock jumps, both ways."""

    def __init__(self, host: Host) -> None:
        """Clocks of `host`."""
        self._host = host

    def monotonic_ms(self) -> int:
        """See `Clock`."""
        return self._host.monotonic_ms()

    def wall_ms(self) -> int:
        """See `Clock`."""
        host = self._host
        wall_ms = WALL_AT_START_MS + host.clock_us() // MS + host.wall_offset_ms
        return wall_ms - wall_ms % host.cluster.profile.wall_grain_ms


class SimInbox:
    """Queries, handovers, stops; answers go to the audit."""

    def __init__(self, host: Host, shard: int, wake: Callable[[], None]) -> None:
        """An empty inbox."""
        self._host, self._shard, self._wake = host, shard, wake
        self._waiting: list[m.Message] = []

    def put(self, message: m.Message) -> None:
        """Somebody asks something of the replica."""
        self._waiting.append(message)
        self._wake()

    def poll(self) -> Sequence[m.Message]:
        """See `Inbox`."""
        waiting, self._waiting = self._waiting, []
        return waiting

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits to be taken in."""
        return not self._waiting

    def reply(self, token: Any, result: object, seq: int, epoch: int, error: str | None) -> None:
        """See `Inbox`."""
        self._host.perform("reply", self._reply, token, result, seq, epoch, error)

    def _reply(self, token: int, result: object, seq: int, epoch: int, error: str | None) -> None:
        cluster = self._host.cluster
        told = None if result is None else msgspec.json.decode(msgspec.json.encode(result))
        cluster.loop.trace(self._host.name, "answers %d: %s at %d, %s", token, told, seq, error)
        cluster.audit.on_reply(token, told, seq, error)


class SimObserver:
    """Counts and traces."""

    def __init__(self, host: Host, shard: int) -> None:
        """Of `host`'s replica of `shard`."""
        self._host, self._shard = host, shard

    def observe(self, event: Event) -> None:
        """See `Observer`."""
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
            if event.error != "by chance":
                cluster.coverage.hit("snapshot requests refused")
        elif isinstance(event, m.RecordVoid):
            cluster.audit.shards[self._shard].every_replica_agrees_that_a_record_is_void(event)
        cluster.loop.trace(self._host.name, "observes %s", event)


class SimTripwire:
    """One replica's connection to its leader's process."""

    def __init__(
        self,
        host: Host,
        wires: Tripwires,
        wake: Callable[[], None],
        told: Callable[[m.Message], None],
    ) -> None:
        """Watches nobody. `told(message)`: the process is handed one."""
        self._told = told
        self._host, self._wires, self._wake = host, wires, wake
        self._waiting: list[m.Message] = []
        self.ticket = 0
        self.address: str | None = None
        self.epoch = 0
        self.life = 0  # of the process at `address` that the connection is to
        wires.all.append(self)

    def watch(self, address: str, epoch: int) -> None:
        """See `Tripwire`."""
        self._host.perform("watch", self._watch, address, epoch)

    def _watch(self, address: str, epoch: int) -> None:
        self._unwatch()
        self.address, self.epoch = address, epoch
        self._wires.connect(self)

    def unwatch(self) -> None:
        """See `Tripwire`."""
        self._host.perform("unwatch", self._unwatch)

    def _unwatch(self) -> None:
        """What has fired already is still told, as by a thread that was quicker."""
        self.ticket += 1
        self.address = None

    def poll(self) -> Sequence[m.Message]:
        """See `Tripwire`."""
        waiting, self._waiting = self._waiting, []
        for message in waiting:
            self._told(message)
        return waiting

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits to be taken in."""
        return not self._waiting

    def fire(self) -> None:
        """The connection closed and a reconnect did not succeed: right or wrong."""
        self._waiting.append(m.TripwireFired(self.epoch))
        self.address = None
        self._wake()

    def end(self) -> None:
        """The watching process is gone."""
        self._unwatch()
        self._wires.all.remove(self)


class Tripwires:
    """All connections between processes."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        """None yet."""
        self._cluster = cluster
        self.all: list[SimTripwire] = []

    def connect(self, wire: SimTripwire) -> None:
        """To a dead process a connection cannot be made: that fires too."""
        target = self._target(wire)
        wire.life = target.life
        if not target.alive:
            self._fire_after(wire, 10 * MS)

    def on_end(self, host: Host) -> None:
        """A process's sockets close; its peers see that soon, late, or never."""
        loop, fault_probability = self._cluster.loop, self._cluster.fault_probability
        for wire in self.all:
            if wire.address != host.address or wire.life != host.life:
                continue
            delay_us = loop.uniform(0, 5 * MS)
            if loop.chance(fault_probability("tripwire_never")):
                self._cluster.coverage.hit("missing tripwires")
                continue
            if loop.chance(fault_probability("tripwire_late")):
                self._cluster.coverage.hit("late tripwires")
                delay_us = loop.uniform(20 * MS, 1_500 * MS)
            self._fire_after(wire, delay_us)

    def fire_falsely(self) -> None:
        """Some connection breaks though the process at its other end lives."""
        wires = [w for w in self.all if w.address is not None and self._target(w).alive]
        if wires:
            self._cluster.coverage.hit("false tripwires")
            self._cluster.loop.random.choice(wires).fire()

    def fire_all(self, host: Host) -> None:
        """All connections to a process break at once, though it lives."""
        wires = [wire for wire in self.all if wire.address == host.address]
        if wires and host.alive:
            self._cluster.coverage.hit("false tripwires", len(wires))
            for wire in wires:
                wire.fire()

    def _fire_after(self, wire: SimTripwire, delay_us: int) -> None:
        self._cluster.loop.after(delay_us, self._reconnect, wire, wire.ticket)

    def _reconnect(self, wire: SimTripwire, ticket: int) -> None:
        if ticket != wire.ticket or wire.address is None:
            return
        target = self._target(wire)
        if target.alive:
            self._cluster.coverage.hit("tripwires after a restart")
            wire.life = target.life
        else:
            wire.fire()

    def _target(self, wire: SimTripwire) -> Host:
        return next(host for host in self._cluster.hosts if host.address == wire.address)
