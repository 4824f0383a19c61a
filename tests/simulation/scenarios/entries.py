"""Entries of a leader: late, lost, failed and duplicated appends."""

from __future__ import annotations

from functools import partial

from postjournal.core import messages as m
from tests.simulation.host import Host
from tests.simulation.journal_producers import LATE, LOST, TWICE, UNACKNOWLEDGED
from tests.simulation.scenario_cluster import ScenarioCluster
from tests.simulation.scenarios.registry import scenario


@scenario
def a_zombie_leaders_late_entry_is_void(cluster: ScenarioCluster) -> None:
    old = cluster.leader
    cluster.log(old).appends.hold()
    producer = cluster.log(old).appends
    cluster.send()
    cluster.run(20)
    old.kill()
    cluster.until(lambda: cluster.published == 3, 200, "the new leader decides it")
    producer.release()
    cluster.run(20)
    assert (cluster.count("void entries"), cluster.count("zombie appends after a claim")) == (1, 1)
    cluster.restart_exited()
    cluster.settle()
    assert cluster.audit.fold.next_seq == 3


@scenario
def a_leader_whose_entries_cannot_land_is_replaced(cluster: ScenarioCluster) -> None:
    old = cluster.leader
    producer = cluster.log(old).appends
    producer.hold()
    cluster.send()
    cluster.run(10)
    in_flight = len(producer.queue)
    cluster.until(lambda: cluster.epoch == 2, 700, "another replica leads")
    assert (in_flight, len(producer.queue)) == (1, 1), "no heartbeat while the entry is in flight"
    producer.release()
    cluster.settle()
    assert cluster.count("rebuilds") == 1


@scenario
def a_deposed_leader_whose_entries_never_landed_rebuilds(cluster: ScenarioCluster) -> None:
    old = cluster.leader
    incarnation = cluster.process(old).replica.incarnation
    cluster.log(old).appends.fates.append(LOST)
    cluster.send()
    cluster.until(lambda: cluster.count("appends lost") == 1, 50, "the entry is lost")
    cluster.simulated.set_cut(old, cut=True)  # so that the failure is not reported to it
    cluster.until(lambda: cluster.epoch == 2, 700, "another replica leads")
    cluster.simulated.set_cut(old, cut=False)
    cluster.settle()
    assert cluster.process(old).replica.incarnation != incarnation


@scenario
def a_deposed_leader_without_unconfirmed_entries_becomes_a_standby(
    cluster: ScenarioCluster,
) -> None:
    old = cluster.leader
    incarnation = cluster.process(old).replica.incarnation
    cluster.simulated.set_cut(old, cut=True)
    cluster.until(lambda: cluster.epoch == 2, 700, "another replica leads")
    cluster.simulated.set_cut(old, cut=False)
    cluster.settle()
    assert cluster.process(old).replica.incarnation == incarnation
    assert cluster.count("rebuilds") == 0


@scenario
def a_gap_in_its_own_records_ends_the_leadership(cluster: ScenarioCluster) -> None:
    old = cluster.leader
    old.append_us = 20_000
    cluster.log(old).appends.fates.append(LOST)
    cluster.send()
    cluster.run(3)
    for _ in range(300):  # enough commands for a second entry in the pipeline
        cluster.send()
    cluster.until(lambda: cluster.count("void entries") > 0, 200, "an entry over a gap")
    cluster.until(lambda: not cluster.process(old).leads, 10, "the leader has read it")
    cluster.settle()
    assert (cluster.epoch, cluster.count("rebuilds")) == (2, 1)


@scenario
def a_failed_append_that_landed_still_ends_the_leadership(cluster: ScenarioCluster) -> None:
    old = cluster.leader
    cluster.log(old).appends.fates.append(UNACKNOWLEDGED)
    cluster.send()
    cluster.until(lambda: not cluster.process(old).leads, 1_300, "the failure is reported")
    cluster.settle()
    assert (cluster.epoch, cluster.count("rebuilds")) == (2, 0), "the entry was read back before"


@scenario
def a_failed_append_ends_each_leadership_of_an_incarnation(cluster: ScenarioCluster) -> None:
    old = cluster.leader
    _lose_the_next_append(cluster, old)
    cluster.until(
        partial(_has_stopped_leading, cluster, old), 150, "the failure ends the leadership"
    )
    cluster.settle()
    _lose_the_next_append(cluster, old)  # the first heartbeat of its next leadership
    cluster.process(cluster.leader).inbox.put(m.HandoverRequested(old.name))
    cluster.until(partial(_is_epoch, cluster, 3), 50, "it leads again")
    cluster.run(50)
    assert not cluster.process(old).leads
    cluster.settle()
    assert cluster.count("rebuilds") == 0


@scenario
def a_broken_producer_ends_one_leadership_and_not_the_next(cluster: ScenarioCluster) -> None:
    old = cluster.leader
    producer = cluster.log(old).appends
    producer.fates.append(LATE)  # a heartbeat that is acknowledged much later
    cluster.until(lambda: not producer.fates, 150, "a heartbeat that is not reported")
    producer.is_broken = True
    cluster.until(partial(_has_stopped_leading, cluster, old), 150, "it cannot append")
    cluster.until(partial(_is_epoch, cluster, 2), 700, "another replica leads")
    cluster.process(cluster.leader).inbox.put(m.HandoverRequested(old.name))
    cluster.until(partial(_is_epoch, cluster, 3), 100, "it leads again")
    cluster.send()
    cluster.settle()
    assert (cluster.epoch, cluster.leader) == (3, old)


@scenario
def a_failed_append_ends_its_leadership_despite_unreported_earlier_appends(
    cluster: ScenarioCluster,
) -> None:
    old = cluster.leader
    producer = cluster.log(old).appends
    producer.fates.append(LATE)
    cluster.until(lambda: not producer.fates, 150, "a heartbeat that is not reported")
    cluster.process(old).inbox.put(m.HandoverRequested(None))
    cluster.until(partial(_is_epoch, cluster, 2), 100, "another replica leads")
    cluster.process(cluster.leader).inbox.put(m.HandoverRequested(old.name))
    cluster.until(partial(_is_epoch, cluster, 3), 100, "it leads again")
    cluster.run(20)
    cluster.log(old).appends.is_broken = True
    cluster.until(partial(_has_stopped_leading, cluster, old), 150, "it cannot append")
    cluster.settle()


def _lose_the_next_append(cluster: ScenarioCluster, host: Host) -> None:
    producer = cluster.log(host).appends
    producer.slowest_failure_us = 5_000
    producer.fates.append(LOST)


def _is_epoch(cluster: ScenarioCluster, epoch: int) -> bool:
    return cluster.epoch == epoch and cluster.simulated.leader(0) is not None


def _has_stopped_leading(cluster: ScenarioCluster, host: Host) -> bool:
    return not cluster.process(host).leads


@scenario
def an_append_that_lands_twice_does_not_end_the_leadership(cluster: ScenarioCluster) -> None:
    leader = cluster.leader
    for count in range(1, 4):
        cluster.log(leader).appends.fates.append(TWICE)
        cluster.send()
        cluster.until(partial(_has_landed_twice, cluster, count), 5_000, "it landed twice")
    cluster.settle()
    assert (cluster.epoch, cluster.leader) == (1, leader)


def _has_landed_twice(cluster: ScenarioCluster, count: int) -> bool:
    return cluster.count("appends landed twice") == count


@scenario
def a_void_foreign_record_does_not_end_the_leadership(cluster: ScenarioCluster) -> None:
    leader = cluster.leader
    for action in (
        cluster.simulation.fault_injector.foreign_record,
        cluster.simulation.fault_injector.corrupt_entry,
    ):
        for _ in range(10):
            action()
    cluster.settle()
    assert (cluster.epoch, cluster.leader) == (1, leader)
