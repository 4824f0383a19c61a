"""Makes things go wrong, at random times, mostly for the leader."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from postjournal.core import messages as m
from tests.simulation.broker import Partition
from tests.simulation.host import Strike
from tests.simulation.impostor import impose
from tests.simulation.kernel import MS
from tests.simulation.pipes import JOURNAL, SINK

if TYPE_CHECKING:
    from tests.simulation.host import Host
    from tests.simulation.world import World

STRIKABLE = (
    None,
    None,
    None,
    "append",
    "append",
    "append",
    "publish",
    "append_claim",
    "publish",
    "open_sink",
    "open_sources",
    "close_sources",
    "close_sinks",
    "rewind",
    "open_journal",
    "restore",
    "take",
    "reply",
    "watch",
    "probe_end",
)
"""Effects that a pause or a kill may wait for; None: any."""

FOREIGN = (
    b"not json",
    b"",
    b"[]",
    b'{"kind":"gossip","epoch":1}',
    b'{"kind":"heartbeat","epoch":"1"}',
    b'{"epoch":1,"seq":0}',
    b"\xff\xfe\x00",
)


class Nemesis:
    """Each action has a weight in the profile, or none."""

    def __init__(self, world: World) -> None:
        """Idle until `start`."""
        self._world, self._kernel, self._random = world, world.kernel, world.kernel.random
        self._names = list(world.profile.actions)
        self._weights = list(world.profile.actions.values())

    def start(self) -> None:
        """The first action comes after a while."""
        if self._names:
            self._kernel.after(self._kernel.spread(self._world.profile.action_gap_us), self._act)

    def _act(self) -> None:
        if self._world.calm:
            return
        name = self._random.choices(self._names, self._weights)[0]
        action: Callable[[], None] = getattr(self, name)
        action()
        self._kernel.after(self._kernel.spread(self._world.profile.action_gap_us), self._act)

    # --- whom and how long ------------------------------------------------------------------

    def _target(self) -> Host | None:
        """The leader rather than another."""
        world = self._world
        if self._random.random() < 0.6:
            leader = world.leader(self._random.randrange(world.profile.shards))
            if leader is not None:
                return leader
        alive = [host for host in world.hosts if host.alive]
        return self._random.choice(alive) if alive else None

    def _a_while(self, low_ms: int, high_ms: int) -> int:
        """Short ones as often as long ones."""
        ratio = high_ms / low_ms
        return int(low_ms * MS * ratio ** self._random.random())

    def _later(self, duration_us: int, action: Callable[[], None]) -> None:
        """At the end of a fault; all end when it gets calm."""
        self._kernel.at(self._world.cap(self._kernel.now_us + duration_us), action)

    def _strike(self, host: Host, pause_us: int | None) -> None:
        """At once, or between two effects that are still to come."""
        if self._random.random() < 0.3:
            if pause_us is None:
                self._kill_now(host)
            else:
                host.pause(pause_us)
            return
        effect = self._random.choice(STRIKABLE)
        skip = self._random.choice((0, 0, 1, 2, 5))
        host.strike = Strike(effect, skip, self._random.random() < 0.4, pause_us)

    # --- actions ----------------------------------------------------------------------------

    def kill(self) -> None:
        """SIGKILL; it is started again after a while."""
        host = self._target()
        if host is not None:
            self._strike(host, None)

    def _kill_now(self, host: Host) -> None:
        if host.alive:
            host.kill()

    def restart(self) -> None:
        """SIGKILL, and a supervisor that starts it again at once, under the same name."""
        host = self._target()
        if host is not None:
            host.kill()
            self._kernel.after(self._kernel.between(0, 10 * MS), self._start_again, host)

    def _start_again(self, host: Host) -> None:
        if not host.alive:
            self._world.coverage.hit("restarts at once")
            host.start()

    def kill_all(self) -> None:
        """A power cut."""
        self._world.coverage.hit("all dead")
        for host in self._world.hosts:
            self._kill_now(host)

    def pause(self) -> None:
        """SIGSTOP, then SIGCONT."""
        host = self._target()
        if host is not None:
            self._strike(host, self._a_while(20, 5_000))

    def suspend(self) -> None:
        """A virtual machine is stopped for a while; its monotonic clock stands still."""
        host = self._target()
        if host is not None:
            host.suspend(self._a_while(20, 3_000))

    def mute(self) -> None:
        """Nothing that one process sends gets through."""
        host = self._target()
        if host is not None and not host.muted:
            self._world.set_muted(host, muted=True)
            self._later(self._a_while(20, 2_500), partial(self._world.set_muted, host, muted=False))

    def refuse(self) -> None:
        """The journal, or the sinks, cannot be appended to by anybody; all can be read."""
        topics = self._random.choice((JOURNAL, SINK))
        if topics not in self._world.refusing:
            self._world.set_refusing(topics, refusing=True)
            end = partial(self._world.set_refusing, topics, refusing=False)
            self._later(self._a_while(20, 2_500), end)

    def stall_topic(self) -> None:
        """Nobody can read one topic for a while."""
        topics = self._random.choice(self._world.topics)
        partitions: tuple[Partition[Any], ...] = (topics.journal, *topics.sources.values())
        partition = self._random.choice(partitions)
        until_us = self._kernel.now_us + self._a_while(20, 2_000)
        partition.stalled_until_us = self._world.cap(until_us)
        self._world.coverage.hit("topics that nobody can read")
        self._kernel.trace("broker", "gives nothing of a topic of shard %d", topics.shard)

    def cut(self) -> None:
        """One process loses the broker."""
        host = self._target()
        if host is not None and not host.cut:
            self._world.set_cut(host, cut=True)
            self._later(self._a_while(20, 3_000), lambda: self._mend(host))

    def _mend(self, host: Host) -> None:
        if host.cut:
            self._world.set_cut(host, cut=False)

    def broker_away(self) -> None:
        """All lose the broker."""
        if not self._world.broker_away:
            self._world.set_broker(away=True)
            self._later(self._a_while(20, 2_500), self._bring_back)

    def _bring_back(self) -> None:
        if self._world.broker_away:
            self._world.set_broker(away=False)

    def slow_fetch(self) -> None:
        """One process reads slowly."""
        self._slow("fetch_us", 300)

    def slow_append(self) -> None:
        """One process's appends take long to land."""
        self._slow("append_us", 400)

    def slow_publish(self) -> None:
        """One process's outputs take long to land."""
        self._slow("publish_us", 400)

    def _slow(self, what: str, highest_ms: int) -> None:
        host = self._target()
        if host is None:
            return
        setattr(host, what, self._a_while(1, highest_ms))
        self._kernel.trace(host.name, "%s is now %d", what, getattr(host, what))
        self._later(self._a_while(50, 2_000), host.be_normal)

    def stall_fetch(self) -> None:
        """One process reads nothing for a while, though all else works."""
        host = self._target()
        if host is not None:
            self._world.coverage.hit("stalled fetches")
            until_us = self._kernel.now_us + self._a_while(50, 3_000)
            host.stalled_until_us = self._world.cap(until_us)
            self._kernel.trace(host.name, "fetches nothing for a while")

    def clock_jump(self) -> None:
        """One process's wall clock is set, forward or back, by a minute or by very little."""
        host = self._target()
        if host is not None:
            most_ms = self._random.choice((60_000, 100, 3))
            jump_ms = self._random.randint(-most_ms, most_ms)
            self._world.coverage.hit("clock jumps back" if jump_ms < 0 else "clock jumps")
            host.wall_offset_ms += jump_ms

    def clock_leap(self) -> None:
        """One process's monotonic clock is suddenly later."""
        host = self._target()
        if host is not None:
            self._world.coverage.hit("monotonic leaps")
            host.mono_offset_us += self._a_while(50, 5_000)

    def false_tripwire(self) -> None:
        """A connection breaks though the process at its other end lives."""
        self._world.tripwires.fire_falsely()

    def false_tripwires(self) -> None:
        """All connections to a process break at once, though it lives: all others claim."""
        host = self._target()
        if host is not None:
            self._world.tripwires.fire_all(host)

    def handover(self) -> None:
        """Somebody asks a replica to resign in favour of another, or of any."""
        host = self._target()
        if host is None:
            return
        names = [each.replica_name for each in self._world.hosts]
        self._world.coverage.hit("handovers")
        successor = self._random.choice([*names, "nobody", None, None])
        self._kernel.trace(host.name, "is asked to hand over to %s", successor)
        self._random.choice(host.seats).inbox.put(m.HandoverRequested(successor))

    def handover_storm(self) -> None:
        """Everybody is asked at once, by several people."""
        for _ in range(self._random.randint(2, 8)):
            self.handover()

    def graceful_stop(self) -> None:
        """SIGTERM."""
        host = self._target()
        if host is not None:
            self._stop(host)

    def stop_all(self) -> None:
        """Everybody gets SIGTERM at about the same time."""
        for host in self._world.hosts:
            self._kernel.after(self._kernel.between(0, 50 * MS), self._stop, host)

    def _stop(self, host: Host) -> None:
        if host.stopping or not host.alive:
            return
        self._world.coverage.hit("graceful stops")
        self._kernel.trace(host.name, "is asked to stop")
        host.stopping = True
        for seat in host.seats:
            seat.inbox.put(m.StopRequested())

    def foreign_record(self) -> None:
        """Something that is no record of ours gets into the journal."""
        self._random.choice(self._world.topics).journal.land(self._random.choice(FOREIGN))

    def forged_entry(self) -> None:
        """An entry in which all is right but the running hash: a damaged log."""
        audit = self._random.choice(self._world.audit.shards)
        fold = audit.fold
        entry = {
            "kind": "entry",
            "epoch": fold.epoch,
            "seq": fold.next_seq,
            "batch": self._random.choice(([], [{"id": "forged", "rejected": "invalid"}])),
            "sources": {},
            "sinks": {},
            "published": {},
            "time": 0,
            "digest_before": "forged",
        }
        self._world.topics[audit.shard].journal.land(msgspec.json.encode(entry))

    def impostor(self) -> None:
        """Somebody with rights on the journal writes as its leader, and all of it is right."""
        shard = self._random.randrange(self._world.profile.shards)
        impose(self._world, shard, self._random.choice(("entry", "entry", "heartbeat", "resign")))
