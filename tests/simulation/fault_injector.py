"""Injects faults at random times, mostly into the leader."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from postjournal.core import messages as m
from tests.simulation.broker import SINKS, SOURCES, Partition
from tests.simulation.event_loop import MS
from tests.simulation.forger import forge
from tests.simulation.host import ScheduledFault
from tests.simulation.invariants import CORRUPT_DIGEST
from tests.simulation.producers import JOURNAL, SINK

if TYPE_CHECKING:
    from tests.simulation.cluster import SimulatedCluster
    from tests.simulation.host import Host

FAULT_POINTS = (
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
"""Effects that can trigger a pause or a kill; None: any effect."""

FOREIGN = (
    b"not json",
    b"",
    b"[]",
    b'{"kind":"gossip","epoch":1}',
    b'{"kind":"heartbeat","epoch":"1"}',
    b'{"epoch":1,"seq":0}',
    b"\xff\xfe\x00",
)


class FaultInjector:
    """Injects each fault of `Profile.faults` with its weight."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster, self._loop, self._random = cluster, cluster.loop, cluster.loop.random
        self._names = list(cluster.profile.faults)
        self._weights = list(cluster.profile.faults.values())

    def start(self) -> None:
        """Schedule the first fault."""
        if self._names:
            self._loop.after(
                self._loop.exponential(self._cluster.profile.fault_gap_us), self._inject
            )

    def _inject(self) -> None:
        if self._cluster.faults_over:
            return
        name = self._random.choices(self._names, self._weights)[0]
        action: Callable[[], None] = getattr(self, name)
        action()
        self._loop.after(self._loop.exponential(self._cluster.profile.fault_gap_us), self._inject)

    # --- targets and durations --------------------------------------------------------------

    def _target(self) -> Host | None:
        """A leader with a probability of 0.6, else any running host."""
        cluster = self._cluster
        if self._random.random() < 0.6:
            leader = cluster.leader(self._random.randrange(cluster.profile.shards))
            if leader is not None:
                return leader
        alive = [host for host in cluster.hosts if host.alive]
        return self._random.choice(alive) if alive else None

    def _duration(self, low_ms: int, high_ms: int) -> int:
        """Draw a duration in µs; its logarithm is uniformly distributed."""
        ratio = high_ms / low_ms
        return int(low_ms * MS * ratio ** self._random.random())

    def _at_end_of_fault(self, duration_us: int, action: Callable[[], None]) -> None:
        """Call `action` at the end of a fault of this duration, or when all faults end."""
        self._loop.at(self._cluster.cap(self._loop.now_us + duration_us), action)

    def _kill_or_pause(self, host: Host, pause_us: int | None) -> None:
        """At once, or at one of the host's next effects."""
        if self._random.random() < 0.3:
            if pause_us is None:
                self._kill_now(host)
            else:
                host.pause(pause_us)
            return
        effect = self._random.choice(FAULT_POINTS)
        skip = self._random.choice((0, 0, 1, 2, 5))
        host.scheduled_fault = ScheduledFault(effect, skip, self._random.random() < 0.4, pause_us)

    # --- faults -----------------------------------------------------------------------------

    def kill(self) -> None:
        """SIGKILL; the host is restarted later."""
        host = self._target()
        if host is not None:
            self._kill_or_pause(host, None)

    def kill_engine(self) -> None:
        """SIGKILL to the engine of one shard, mostly of one that leads; the host lives on."""
        host = self._target()
        if host is None:
            return
        leading = [process.topics.shard for process in host.processes if process.leads]
        shards = leading or range(len(host.processes))
        if self._random.random() < 0.3:
            host.kill_engine(self._random.choice(shards))
            return
        effect, after = self._random.choice(FAULT_POINTS), self._random.random() < 0.4
        skip = self._random.choice((0, 0, 1, 2, 5))
        host.scheduled_fault = ScheduledFault(effect, skip, after, engine_only=True)

    def _kill_now(self, host: Host) -> None:
        if host.alive:
            host.kill()

    def restart(self) -> None:
        """SIGKILL and an immediate restart under the same name."""
        host = self._target()
        if host is not None:
            host.kill()
            self._loop.after(self._loop.uniform(0, 10 * MS), self._restart_now, host)

    def _restart_now(self, host: Host) -> None:
        if not host.alive:
            self._cluster.coverage.hit("immediate restarts")
            host.start()

    def kill_all(self) -> None:
        """SIGKILL all hosts: a power failure."""
        self._cluster.coverage.hit("all replicas killed")
        for host in self._cluster.hosts:
            self._kill_now(host)

    def pause(self) -> None:
        """SIGSTOP; SIGCONT follows after up to 5 s."""
        host = self._target()
        if host is not None:
            self._kill_or_pause(host, self._duration(20, 5_000))

    def suspend(self) -> None:
        """Pause a virtual machine: its monotonic clock stands still."""
        host = self._target()
        if host is not None:
            host.suspend(self._duration(20, 3_000))

    def mute(self) -> None:
        """Drop everything that one host sends."""
        host = self._target()
        if host is not None and not host.muted:
            self._cluster.set_muted(host, muted=True)
            self._at_end_of_fault(
                self._duration(20, 2_500), partial(self._cluster.set_muted, host, muted=False)
            )

    def block(self) -> None:
        """Cut one host off from one source or sink, or from reading the journal, of which it
        cannot read some record; all else works."""
        host = self._target()
        if host is not None:
            topic = self._random.choice((*SOURCES, *SINKS, JOURNAL))
            self._cluster.set_blocked(host, topic, blocked=True)
            self._at_end_of_fault(
                self._duration(50, 2_500),
                partial(self._cluster.set_blocked, host, topic, blocked=False),
            )

    def refuse(self) -> None:
        """Reject all appends to the journal, or to the sinks; they remain readable."""
        topics = self._random.choice((JOURNAL, SINK))
        if topics not in self._cluster.refusing:
            self._cluster.set_refusing(topics, refusing=True)
            end = partial(self._cluster.set_refusing, topics, refusing=False)
            self._at_end_of_fault(self._duration(20, 2_500), end)

    def stall_topic(self) -> None:
        """Make one topic unreadable for a while."""
        topics = self._random.choice(self._cluster.topics)
        partitions: tuple[Partition[Any], ...] = (topics.journal, *topics.sources.values())
        partition = self._random.choice(partitions)
        until_us = self._loop.now_us + self._duration(20, 2_000)
        partition.stalled_until_us = self._cluster.cap(until_us)
        self._cluster.coverage.hit("unreadable topics")
        self._loop.trace("broker", "stalls a topic of shard %d", topics.shard)

    def cut(self) -> None:
        """Cut one host's connection to the broker."""
        host = self._target()
        if host is not None and not host.cut:
            self._cluster.set_cut(host, cut=True)
            self._at_end_of_fault(self._duration(20, 3_000), lambda: self._end_cut(host))

    def _end_cut(self, host: Host) -> None:
        if host.cut:
            self._cluster.set_cut(host, cut=False)

    def broker_unavailable(self) -> None:
        """Make the broker unreachable for all hosts."""
        if not self._cluster.broker_unavailable:
            self._cluster.set_broker(available=False)
            self._at_end_of_fault(self._duration(20, 2_500), self._end_outage)

    def _end_outage(self) -> None:
        if self._cluster.broker_unavailable:
            self._cluster.set_broker(available=True)

    def slow_fetch(self) -> None:
        self._slow("fetch_us", 300)

    def slow_append(self) -> None:
        self._slow("append_us", 400)

    def slow_publish(self) -> None:
        self._slow("publish_us", 400)

    def _slow(self, what: str, highest_ms: int) -> None:
        host = self._target()
        if host is None:
            return
        setattr(host, what, self._duration(1, highest_ms))
        self._loop.trace(host.name, "%s is now %d", what, getattr(host, what))
        self._at_end_of_fault(self._duration(50, 2_000), host.reset_speed)

    def stall_fetch(self) -> None:
        """Stop one host's fetches for a while; everything else works."""
        host = self._target()
        if host is not None:
            self._cluster.coverage.hit("stalled fetches")
            until_us = self._loop.now_us + self._duration(50, 3_000)
            host.stalled_until_us = self._cluster.cap(until_us)
            self._loop.trace(host.name, "fetches are stalled")

    def wall_clock_jump(self) -> None:
        """Set one host's wall clock forward or back, by up to a minute."""
        host = self._target()
        if host is not None:
            max_ms = self._random.choice((60_000, 100, 3))
            jump_ms = self._random.randint(-max_ms, max_ms)
            self._cluster.coverage.hit(
                "wall clock jumps back" if jump_ms < 0 else "wall clock jumps forward"
            )
            host.wall_offset_ms += jump_ms

    def monotonic_jump(self) -> None:
        """Advance one host's monotonic clock by up to 5 s."""
        host = self._target()
        if host is not None:
            self._cluster.coverage.hit("monotonic clock jumps")
            host.mono_offset_us += self._duration(50, 5_000)

    def false_tripwire(self) -> None:
        """Break a connection although the host at its other end is running."""
        self._cluster.tripwires.fire_falsely()

    def false_tripwires(self) -> None:
        """Break all connections to a running host at once, so that all others claim."""
        host = self._target()
        if host is not None:
            self._cluster.tripwires.fire_all(host)

    def handover(self) -> None:
        """Request a replica to resign in favor of another, or of any."""
        host = self._target()
        if host is None:
            return
        names = [other.replica_name for other in self._cluster.hosts]
        self._cluster.coverage.hit("handovers")
        successor = self._random.choice([*names, "no-such-replica", None, None])
        self._loop.trace(host.name, "is requested to hand over to %s", successor)
        self._random.choice(host.processes).inbox.put(m.HandoverRequested(successor))

    def handover_burst(self) -> None:
        """Request several handovers at once."""
        for _ in range(self._random.randint(2, 8)):
            self.handover()

    def graceful_stop(self) -> None:
        host = self._target()
        if host is not None:
            self._stop(host)

    def stop_all(self) -> None:
        """SIGTERM all hosts within 50 ms."""
        for host in self._cluster.hosts:
            self._loop.after(self._loop.uniform(0, 50 * MS), self._stop, host)

    def _stop(self, host: Host) -> None:
        if host.stopping or not host.alive:
            return
        self._cluster.coverage.hit("graceful stops")
        self._loop.trace(host.name, "is requested to stop")
        host.stopping = True
        for process in host.processes:
            process.inbox.put(m.StopRequested())

    def foreign_record(self) -> None:
        """Land a record that is not one of this protocol."""
        self._random.choice(self._cluster.topics).journal.land(self._random.choice(FOREIGN))

    def corrupt_entry(self) -> None:
        """Land an entry whose only error is its digest: a damaged journal."""
        audit = self._random.choice(self._cluster.audit.shards)
        fold = audit.fold
        entry = {
            "kind": "entry",
            "epoch": fold.epoch,
            "seq": fold.next_seq,
            "batch": self._random.choice(([], [{"id": "corrupt", "rejected": "invalid"}])),
            "sources": {},
            "sinks": {},
            "published": {},
            "time": 0,
            "digest_before": CORRUPT_DIGEST,
        }
        self._cluster.topics[audit.shard].journal.land(msgspec.json.encode(entry))

    def forged_record(self) -> None:
        """Land a valid record that looks as if the leader had written it."""
        shard = self._random.randrange(self._cluster.profile.shards)
        forge(self._cluster, shard, self._random.choice(("entry", "entry", "heartbeat", "resign")))
