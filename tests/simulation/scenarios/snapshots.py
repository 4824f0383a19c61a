"""Snapshots during kills, takeovers and trimming."""

from __future__ import annotations

from tests.simulation.event_loop import MS
from tests.simulation.host import Host
from tests.simulation.journal_producers import LOST
from tests.simulation.profile import SnapshotFaults
from tests.simulation.scenario_cluster import ScenarioCluster
from tests.simulation.scenarios.registry import scenario


def _take(cluster: ScenarioCluster, host: Host, *, leader: bool = False) -> None:
    """Request a snapshot and wait until it is stored."""
    before = cluster.count("snapshots taken")
    cluster.simulation.maintenance.request_snapshot(host, 0, allow_leader=leader)
    cluster.until(lambda: cluster.count("snapshots taken") > before, 500, "it is taken")


def _grow(cluster: ScenarioCluster, commands: int) -> None:
    for _ in range(commands):
        cluster.send()
        cluster.run(1)
    cluster.settle()


@scenario
def a_killed_replica_restores_from_the_newest_snapshot(cluster: ScenarioCluster) -> None:
    victim, other = cluster.standbys
    for _ in range(2):
        _grow(cluster, 10)
        _take(cluster, other)
    _grow(cluster, 5)
    victim.kill()
    cluster.restart_exited()
    cluster.settle()
    assert cluster.count("restores from the newest snapshot") == 1


@scenario
def a_damaged_snapshot_is_skipped_for_an_older_one(cluster: ScenarioCluster) -> None:
    victim, other = cluster.standbys
    for _ in range(2):
        _grow(cluster, 10)
        _take(cluster, other)
    newest = cluster.simulated.stores[0].snapshots[0]
    assert newest.data is not None
    newest.data = newest.data[:-1]
    victim.kill()
    cluster.restart_exited()
    cluster.settle()
    assert cluster.count("restores from an older snapshot") == 1


@scenario
def after_all_replicas_are_killed_one_restores_from_a_snapshot_and_leads(
    cluster: ScenarioCluster,
) -> None:
    _grow(cluster, 10)
    _take(cluster, cluster.standbys[0])
    for host in cluster.hosts:
        host.kill()
    cluster.restart_exited()
    cluster.settle(5_000)
    assert cluster.count("restores from the newest snapshot") == 3
    _grow(cluster, 5)


@scenario
def a_deposed_leader_with_void_entries_rebuilds_from_snapshot_and_tail(
    cluster: ScenarioCluster,
) -> None:
    old = cluster.leader
    _grow(cluster, 10)
    _take(cluster, cluster.standbys[0])
    cluster.log(old).appends.fates.append(LOST)
    cluster.send()
    cluster.until(lambda: cluster.count("appends lost") == 1, 50, "the entry is lost")
    old.pause(700 * MS)
    cluster.settle(5_000)
    assert cluster.count("rebuilds") == 1
    assert cluster.count("restores from the newest snapshot") == 1
    assert cluster.leader is not old


@scenario
def a_takeover_neither_waits_for_a_snapshot_nor_damages_it(cluster: ScenarioCluster) -> None:
    taker, other = cluster.standbys
    _grow(cluster, 10)
    other.kill()  # so that the taker takes over
    cluster.simulated.profile.snapshots.store_us = 300 * MS
    cluster.simulation.maintenance.request_snapshot(taker, 0, allow_leader=False)
    cluster.run(5)
    assert cluster.process(taker).snapshots.is_taking
    cluster.leader.kill()
    cluster.until(lambda: cluster.simulated.leader(0) is taker, 100, "the taker leads")
    cluster.send()
    cluster.until(lambda: cluster.count("snapshots taken") == 1, 5_000, "it is stored nevertheless")
    assert cluster.count("snapshots across a takeover") == 1
    cluster.restart_exited()
    cluster.settle(5_000)
    assert cluster.count("restores from the newest snapshot") == 2


@scenario
def a_leaders_snapshot_is_taken_with_nothing_in_flight(cluster: ScenarioCluster) -> None:
    for _ in range(20):
        cluster.send()
        cluster.run(0.3)
    cluster.simulation.maintenance.request_snapshot(cluster.leader, 0, allow_leader=True)
    for _ in range(20):
        cluster.send()
        cluster.run(0.3)
    cluster.settle()
    assert (cluster.count("snapshots of a leader"), cluster.count("snapshots taken")) == (1, 1)


@scenario
def a_replica_killed_while_it_takes_a_snapshot_stores_none(cluster: ScenarioCluster) -> None:
    taker = cluster.standbys[0]
    cluster.simulated.profile.snapshots.store_us = 300 * MS
    cluster.simulation.maintenance.request_snapshot(taker, 0, allow_leader=False)
    cluster.run(5)
    taker.kill()
    cluster.run(2_000)
    assert cluster.simulated.stores[0].snapshots == []
    cluster.restart_exited()
    cluster.settle()


@scenario
def a_replica_overtaken_by_trimming_restores_from_a_snapshot(cluster: ScenarioCluster) -> None:
    sleeper, other = cluster.standbys
    _grow(cluster, 3)
    cluster.log(sleeper).journal.hold()
    for _ in range(2):
        for _ in range(10):
            cluster.send()
            cluster.run(1)
        _take(cluster, other)
    cluster.simulation.maintenance.trim(0)
    assert cluster.count("journals trimmed") == 1
    cluster.log(sleeper).journal.release()
    cluster.settle(6_000)
    assert cluster.count("readers overtaken by trimming") == 1
    assert cluster.count("restores from the newest snapshot") == 1


@scenario
def a_slow_restore_does_not_delay_the_leader(cluster: ScenarioCluster) -> None:
    victim, other = cluster.standbys
    _grow(cluster, 10)
    _take(cluster, other)
    cluster.simulated.profile.snapshots = SnapshotFaults(restore_us=2_000 * MS)
    victim.kill()
    victim.start()
    published = cluster.published
    for _ in range(20):
        cluster.send()
        cluster.run(2)
    assert cluster.published >= published + 15
    cluster.settle(20_000)
