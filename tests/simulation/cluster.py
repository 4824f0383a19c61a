"""The simulated cluster of one run: the broker and the hosts, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.simulation.application import LATEST, Release
from tests.simulation.audit import Audit
from tests.simulation.broker import SINKS, SOURCES, ShardTopics
from tests.simulation.coverage import Coverage
from tests.simulation.event_loop import MS, EventLoop
from tests.simulation.host import Host
from tests.simulation.invariants import ShardAudit, Violation
from tests.simulation.ports import Tripwires
from tests.simulation.profile import Profile
from tests.simulation.reference import ACCEPTED, ALARM
from tests.simulation.shard_process import ShardProcess
from tests.simulation.snapshot_store import SnapshotStore


class SimulatedCluster:
    """Topics, hosts, tripwires and the audit of one run; `run_until` and `run_for` drive it."""

    def __init__(self, loop: EventLoop, profile: Profile) -> None:
        """Create the hosts; `start` starts them."""
        self.loop, self.profile = loop, profile
        self.coverage = Coverage()
        self.faults_over = False
        self.faults_end_us: int | None = None
        self.broker_unavailable = False
        self.refusing: set[str] = set()  # topics whose appends the broker rejects
        self.refuses_entries = False  # as with a small `max.message.bytes`
        self.audit = Audit(self)
        self.tripwires = Tripwires(self)
        self.topics = [self._make_topics(shard) for shard in range(profile.shards)]
        self.hosts = self._make_hosts()
        self.first_epochs: dict[tuple[int, str], int] = {}  # (shard, command id) → when decided
        self.stores = [SnapshotStore() for _ in range(profile.shards)]
        self.claimants: dict[tuple[int, int], set[str]] = {}  # (shard, epoch) → incarnations
        self.on_resigned: Callable[[int], None] = lambda _: None
        self.unconfirmed: set[tuple[int, int]] = set()  # (shard, epoch) when its leader died

    def _make_topics(self, shard: int) -> ShardTopics:
        audit = self.audit.shards[shard]
        return ShardTopics(shard, audit.on_journal, audit.a_sink_has_no_gap)

    def _make_hosts(self) -> list[Host]:
        names = [f"r{number}" for number in range(self.profile.replicas)]
        hosts = [Host(self, name, name) for name in names]
        if self.profile.duplicate_names:
            hosts[-1].replica_name = hosts[0].replica_name
            self.coverage.hit("two hosts with one name")
        return hosts

    def make_process(self, host: Host, topics: ShardTopics) -> ShardProcess:
        return ShardProcess(host, topics)

    def draw_release(self, host: Host) -> Release:
        """Of the application, for a host that starts; the latest when the faults are over."""
        profile = self.profile
        if self.faults_over:
            return LATEST
        has_balances = not profile.releases or self.loop.random.random() < 0.5
        if not has_balances:
            self.coverage.hit("hosts without a sink")
        is_faulty = profile.fatal and host is self.hosts[-1]
        return Release(has_balances, "a1" if is_faulty else None)

    def start(self) -> None:
        """Start all hosts within 20 ms."""
        for host in self.hosts:
            self.loop.after(self.loop.uniform(0, 20 * MS), host.start)

    # --- time -------------------------------------------------------------------------------

    def run_until(self, done: Callable[[], bool], bound_us: int, what: str) -> None:
        """Run events until `done()`; raise a liveness `Violation` after `bound_us`."""
        end_us = self.loop.now_us + bound_us
        while not done():
            next_us = self.loop.next_at()
            if next_us is None or next_us > end_us:
                raise Violation("liveness", f"not within {bound_us // MS} ms: {what}")
            self.loop.step()

    def run_for(self, duration_us: int) -> None:
        self.loop.run_to(self.loop.now_us + duration_us)

    def cap(self, time_us: int) -> int:
        """The earlier of `time_us` and the end of the faults: no fault outlasts them."""
        return time_us if self.faults_end_us is None else min(time_us, self.faults_end_us)

    # --- faults -----------------------------------------------------------------------------

    def fault_probability(self, name: str) -> float:
        """The probability of a fault of `profile`; 0 when the faults are over."""
        return 0.0 if self.faults_over else getattr(self.profile, name)

    def snapshot_fault_probability(self, name: str) -> float:
        """As `fault_probability`, for `profile.snapshots`."""
        return 0.0 if self.faults_over else getattr(self.profile.snapshots, name)

    def set_broker(self, *, available: bool) -> None:
        """Make the broker reachable or unreachable for all hosts."""
        self.broker_unavailable = not available
        self.loop.trace("broker", "is %s", "available" if available else "unavailable")
        if not available:
            self.coverage.hit("broker unavailable")
        for host in self.hosts:
            host.on_reachable() if available else host.on_unreachable()

    def set_cut(self, host: Host, *, cut: bool) -> None:
        """Cut or restore one host's connection to the broker, in both directions."""
        host.cut = cut
        self.loop.trace(host.name, "is %s", "cut off" if cut else "no longer cut off")
        if not cut:
            host.on_reachable()
            return
        self.coverage.hit("links cut")
        host.on_unreachable()

    def set_muted(self, host: Host, *, muted: bool) -> None:
        """Block or unblock everything that a host sends to the broker; it still reads."""
        if muted and not host.muted:
            self.coverage.hit("hosts muted")
            self.loop.trace(host.name, "is muted")
        host.muted = muted
        self._resume_producers()

    def set_blocked(self, host: Host, topic: str, *, blocked: bool) -> None:
        """Block or unblock a source or a sink of all shards for one host."""
        if not blocked:
            host.blocked.discard(topic)
            host.on_reachable()
            self._resume_producers()
            return
        if topic not in host.blocked:
            kind = "sources" if topic in SOURCES else "sinks" if topic in SINKS else "journals"
            self.coverage.hit(f"{kind} blocked")
            self.loop.trace(host.name, "does not reach %s", topic)
        host.blocked.add(topic)

    def set_refusing(self, topics: str, *, refusing: bool) -> None:
        """Reject or accept appends to some topics, as with too few in-sync replicas."""
        if refusing:
            self.refusing.add(topics)
            self.coverage.hit(f"{topics} topics refuse")
            self.loop.trace("broker", "refuses %s topics", topics)
            return
        self.refusing.discard(topics)
        self._resume_producers()

    def _resume_producers(self) -> None:
        for host in self.hosts:
            for producer in host.producers:
                producer.resume()

    # --- coverage ---------------------------------------------------------------------------

    def on_verdict(
        self, audit: ShardAudit, offset: int, record: Any, verdict: str, epoch_before: int
    ) -> None:
        """Count what the reference's verdict on a new journal record shows."""
        kind = record.get("kind") if isinstance(record, dict) else None
        self.loop.trace("journal", "%d/%d %s %s", audit.shard, offset, verdict, record)
        if kind == "claim":
            self._on_claim(audit.shard, record)
        if verdict == ACCEPTED:
            if kind == "claim":
                self._on_new_leader(audit.shard, epoch_before)
            elif kind == "entry":
                self._on_entry(audit, record)
            elif kind == "resign":
                self.on_resigned(audit.shard)
        elif verdict == ALARM:
            self.coverage.hit("alarms at corrupt entries")
        elif kind in ("claim", "entry", "heartbeat"):
            plural = "entries" if kind == "entry" else f"{kind}s"
            self.coverage.hit(f"void {plural}")
            epoch = record["epoch"]
            if kind != "claim" and epoch == audit.fold.epoch and audit.fold.resigned:
                self.coverage.hit("void records of a resigned leader")
            if kind != "claim" and isinstance(epoch, int) and epoch < audit.fold.epoch:
                self.coverage.hit("zombie appends after a claim")
        elif kind is None:
            self.coverage.hit("void foreign records")

    def _on_claim(self, shard: int, claim: Any) -> None:
        claimants = self.claimants.setdefault((shard, claim["epoch"]), set())
        claimants.add(claim["incarnation"])
        if len(claimants) == 2:
            self.coverage.hit("concurrent claims")

    def _on_entry(self, audit: ShardAudit, entry: Any) -> None:
        before, hit = audit.reference.sources, self.coverage.hit
        if sum(end > before.get(topic, 0) for topic, end in entry["sources"].items()) > 1:
            hit("two sources in an entry")
        hit("entries of a leader without a sink", len(SINKS) - len(entry["sinks"]))
        for item in entry["batch"]:
            key = (audit.shard, item["id"])
            if item.get("replayed") and self.first_epochs[key] != entry["epoch"]:
                hit("duplicates across a takeover")
            self.first_epochs.setdefault(key, entry["epoch"])
        sinks, limit = self.topics[audit.shard].sinks, self.profile.limits.unpublished_outputs
        if any(end - sinks[sink].next_seq >= limit for sink, end in entry["sinks"].items()):
            hit("decisions paused for a sink")

    def _on_new_leader(self, shard: int, old_epoch: int) -> None:
        if (shard, old_epoch) in self.unconfirmed:
            self.coverage.hit("takeovers with entries in flight")
        for host in self.hosts:
            is_down = host.is_engine_down(shard)
            leadership = None if is_down else host.processes[shard].replica.leadership
            if leadership is None or leadership.epoch != old_epoch:
                continue
            if leadership.has_unconfirmed_entries:
                self.coverage.hit("takeovers with entries in flight")
            if host.paused_until_us is not None:
                self.coverage.hit("paused leaders deposed")
            if self.loop.chance(self.fault_probability("zombie_sink_breaks")):
                delay_us = self.loop.uniform(0, 400 * MS)
                self.loop.after(delay_us, host.processes[shard].break_sink)

    def on_end(self, host: Host) -> None:
        """Remember which epochs end with unconfirmed entries because their leader's host ends."""
        for process in host.processes:
            self.on_engine_end(process)

    def on_engine_end(self, process: ShardProcess) -> None:
        """As `on_end`, of one engine."""
        leadership = process.replica.leadership
        if leadership is not None and leadership.has_unconfirmed_entries:
            self.unconfirmed.add((process.topics.shard, leadership.epoch))

    # --- health -----------------------------------------------------------------------------

    def leader(self, shard: int) -> Host | None:
        """The host that leads: by the journal and by its own replica."""
        incarnation = self.audit.shards[shard].fold.leader
        for host in self.hosts:
            process = host.processes[shard] if host.alive else None
            if process is not None and process.leads and process.replica.incarnation == incarnation:
                return host
        return None

    def works(self) -> bool:
        """Whether each shard has a leader, and everything is decided and published."""
        return all(
            not audit.fold.resigned
            and audit.everything_is_decided()
            and audit.everything_is_published()
            and self.leader(audit.shard) is not None
            for audit in self.audit.shards
        )

    def is_healthy(self) -> bool:
        """Whether it works, and all replicas have read the whole journal and answered all
        queries."""
        if not self.works():
            return False
        shards = range(self.profile.shards)
        return all(map(self._is_shard_healthy, shards)) and not self.audit.unanswered()

    def _is_shard_healthy(self, shard: int) -> bool:
        end = len(self.audit.shards[shard].points) - 1
        for host in self.hosts:
            if not host.alive or host.stopping or host.paused_until_us is not None:
                return False
            process = host.processes[shard]
            if process.ended or process.replica.position != end:
                return False
        return True

    def why_unhealthy(self) -> str:
        lines = [f"unanswered: {self.audit.unanswered()}"]
        for shard, audit in enumerate(self.audit.shards):
            lines.append(
                f"shard {shard}: journal ends at {len(audit.points) - 1}, {audit.fold.point()}, "
                f"decided {audit.everything_is_decided()}, "
                f"published {audit.everything_is_published()}, {self._replicas(shard)}"
            )
        return "; ".join(lines)

    def _replicas(self, shard: int) -> list[str]:
        """Role and position of each running replica."""
        lines = []
        for host in self.hosts:
            if host.alive:
                replica = host.processes[shard].replica
                stopping = " stopping" if host.stopping else ""
                lines.append(f"{host.name} {replica.role.value}@{replica.position}{stopping}")
        return lines
