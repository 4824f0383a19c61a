"""Requests snapshots and trims journals, as the coordinator does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postjournal.core import messages as m
from services.coordinator import policy

if TYPE_CHECKING:
    from tests.simulation.cluster import SimulatedCluster
    from tests.simulation.host import Host


class Maintenance:
    """Requests snapshots of any replica at random times, and trims journals behind them."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster, self._loop = cluster, cluster.loop
        self._faults = cluster.profile.snapshots
        self._count = 0
        cluster.on_resigned = self._on_resigned

    def start(self) -> None:
        """Schedule the first request."""
        if self._faults.gap_us:
            self._loop.after(self._loop.exponential(self._faults.gap_us), self._maintain)

    def _maintain(self) -> None:
        if self._cluster.faults_over:
            return
        random = self._loop.random
        shard = random.randrange(self._cluster.profile.shards)
        self.request_snapshot(random.choice(self._cluster.hosts), shard)
        if self._loop.chance(self._faults.trims):
            self.trim(shard)
        self._loop.after(self._loop.exponential(self._faults.gap_us), self._maintain)

    def _on_resigned(self, shard: int) -> None:
        if self._loop.chance(self._cluster.snapshot_fault_probability("resigned")):
            self.request_snapshot(self._loop.random.choice(self._cluster.hosts), shard)

    def request_snapshot(self, host: Host, shard: int, *, allow_leader: bool | None = None) -> None:
        """Send a snapshot request for one replica to all, as the control topic does."""
        if not host.alive:
            return
        self._count += 1
        if allow_leader is None:
            allow_leader = self._loop.chance(self._faults.leader)
        request = m.SnapshotRequested(host.replica_name, f"s{self._count}", 1, allow_leader)
        self._send_to_all(request, shard)
        if self._loop.chance(self._faults.repeated):
            self._cluster.coverage.hit("snapshot requests repeated")
            self._send_to_all(request, shard)

    def _send_to_all(self, request: m.SnapshotRequested, shard: int) -> None:
        for host in self._cluster.hosts:
            if host.alive:
                host.processes[shard].inbox.put(request)

    def trim(self, shard: int) -> None:
        """Trim before the oldest snapshot if it is sound, as the coordinator does."""
        store, journal = self._cluster.stores[shard], self._cluster.topics[shard].journal
        anchor = policy.trim_anchor([stored.manifest for stored in store.snapshots])
        if anchor is None or not store.snapshots[-1].is_sound or anchor.offset <= journal.begin:
            return
        self._cluster.coverage.hit("journals trimmed")
        self._loop.trace("journal", "%d is trimmed before %d", shard, anchor.offset)
        journal.trim(anchor.offset)
