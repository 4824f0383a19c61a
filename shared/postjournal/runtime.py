"""The engine's loop: poll the ports, step the replica, carry out the effects in order.

Production and the simulation run this code over different ports.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from postjournal.core import messages as m
from postjournal.core.reader import Reader
from postjournal.core.replica import Replica
from postjournal.ports import Clock, Inbox, Observer, ShardLog, Snapshots, Tripwire

MAX_WAIT_MS = 500
"""More than the time between two heartbeats, so that these find the engine asleep.

Also the longest delay of what the ports do on a clock of their own."""

FOREVER_MS = 86_400_000

Engine = Replica[Any, Any, Any] | Reader[Any, Any, Any]


@dataclass(frozen=True)
class ShardPorts:
    """The ports of one shard's replica."""

    log: ShardLog
    tripwire: Tripwire
    inbox: Inbox
    snapshots: Snapshots
    clock: Clock
    observer: Observer


class Runtime:
    """Runs one shard's replica; owned by one thread.

    `make_replica(incarnation)` creates an empty replica; `new_incarnation()` returns an id that
    was never used before. The constructor creates the first incarnation and uses no port.
    """

    def __init__(
        self,
        make_replica: Callable[[str], Engine],
        new_incarnation: Callable[[], str],
        ports: ShardPorts,
    ) -> None:
        self._make_replica = make_replica
        self._new_incarnation = new_incarnation
        self._ports = ports
        self.stopped = False
        self.replica = make_replica(new_incarnation())
        self._carry_out = self._dispatch()

    def start(self) -> None:
        """Carry out the replica's first effects."""
        clock = self._ports.clock
        self._perform(self.replica.start(clock.monotonic_ms(), clock.wall_ms()))

    def turn(self) -> None:
        """Run one round: wait until something has happened or is due, step, carry out the effects.

        Raises `ShardHalted` when this shard must not go on.
        """
        ports = self._ports
        from_log = [*ports.log.poll(min(self.wait_ms(), MAX_WAIT_MS)), *ports.snapshots.poll()]
        incarnation = self.replica.incarnation
        for message in from_log:
            if self.replica.incarnation != incarnation:
                break  # the rest was for the previous incarnation
            self._step(message)
        from_elsewhere = [*ports.tripwire.poll(), *ports.inbox.poll()]
        for message in from_elsewhere:
            self._step(message)
        if not from_log and not from_elsewhere:
            self._step(m.Tick())

    def resign(self) -> None:
        """Leave the leadership, if this replica has it: `turn` has raised `ShardHalted`.

        Otherwise the others would take 400 ms to notice that it leads no more.
        """
        leadership = self.replica.leadership
        if leadership is not None and not leadership.resigned:
            self._perform([leadership.resign_at_once(self._ports.clock.monotonic_ms())])

    def wait_ms(self) -> int:
        """How long to wait if nothing happens. `FOREVER_MS`: until something does."""
        if self.replica.is_busy:
            return 0
        now_ms = self._ports.clock.monotonic_ms()
        due_ms = self.replica.next_due_ms(now_ms)
        return FOREVER_MS if due_ms is None else max(due_ms - now_ms, 1)

    def _step(self, message: m.Message) -> None:
        clock = self._ports.clock
        self._perform(self.replica.step(message, clock.monotonic_ms(), clock.wall_ms()))

    def _perform(self, effects: list[m.Effect]) -> None:
        replica = self.replica
        for effect in effects:
            assert self.replica is replica, "a rebuild is the last effect of its incarnation"
            self._carry_out[type(effect)](effect)

    def _dispatch(self) -> dict[type, Callable[[Any], None]]:
        log, tripwire = self._ports.log, self._ports.tripwire
        inbox, observe = self._ports.inbox, self._ports.observer.observe
        snapshots = self._ports.snapshots
        return {
            m.Restore: lambda _: snapshots.restore(),
            m.OpenJournal: lambda e: log.open_journal(e.offset),
            m.TakeSnapshot: lambda e: snapshots.take(e.request, e.image),
            m.Append: lambda e: log.append(e.value),
            m.ForgetAppends: lambda _: log.forget_appends(),
            m.AppendClaim: lambda e: log.append_claim(e.value),
            m.PurgeClaims: lambda _: log.purge_claims(),
            m.ProbeEnd: lambda e: log.probe_end(e.token),
            m.OpenSources: lambda e: log.open_sources(e.offsets),
            m.PauseSources: lambda _: log.pause_sources(),
            m.ResumeSources: lambda _: log.resume_sources(),
            m.CloseSources: lambda _: log.close_sources(),
            m.OpenSink: lambda e: log.open_sink(e.sink),
            m.Publish: lambda e: log.publish(e.sink, e.outputs),
            m.CloseSinks: lambda _: log.close_sinks(),
            m.WatchLeader: lambda e: tripwire.watch(e.address, e.incarnation, e.epoch),
            m.UnwatchLeader: lambda _: tripwire.unwatch(),
            m.Reply: lambda e: inbox.reply(e.token, e.result, e.seq, e.epoch, e.error),
            m.Rebuild: lambda _: self._rebuild(),
            m.Stopped: lambda _: self._stop(),
            m.RoleChanged: observe,
            m.TookOver: observe,
            m.EntryStable: observe,
            m.CommandFailed: observe,
            m.Impaired: observe,
            m.RecordVoid: observe,
            m.SnapshotProgressed: observe,
        }

    def _rebuild(self) -> None:
        self.replica = self._make_replica(self._new_incarnation())
        self._ports.log.rewind()
        self._ports.snapshots.cancel()
        self.start()

    def _stop(self) -> None:
        self._ports.snapshots.cancel()
        self.stopped = True
