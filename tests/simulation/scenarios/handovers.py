"""Handovers and graceful stops."""

from __future__ import annotations

from postjournal.core import messages as m
from tests.simulation.journal_producers import LOST
from tests.simulation.scenario_cluster import ScenarioCluster
from tests.simulation.scenarios.registry import scenario


@scenario
def a_handover_takes_less_than_30_ms_and_goes_to_the_successor(
    cluster: ScenarioCluster,
) -> None:
    successor = cluster.standbys[1]
    cluster.process(cluster.leader).inbox.put(m.HandoverRequested(successor.name))
    cluster.run(30)
    assert (cluster.leader, cluster.epoch) == (successor, 2)
    cluster.settle()


@scenario
def a_handover_under_load_finishes_the_entries_in_flight(cluster: ScenarioCluster) -> None:
    old = cluster.leader
    for _ in range(20):
        cluster.send()
        cluster.run(0.3)
    cluster.process(old).inbox.put(m.HandoverRequested(None))
    cluster.settle()
    assert (cluster.epoch, cluster.count("rebuilds"), cluster.count("void entries")) == (2, 0, 0)
    assert cluster.count("outputs in a sink twice") == 0


@scenario
def a_handover_to_a_dead_successor_goes_to_another_replica(cluster: ScenarioCluster) -> None:
    successor, other = cluster.standbys
    successor.kill()
    cluster.process(cluster.leader).inbox.put(m.HandoverRequested(successor.name))
    cluster.run(150)
    assert cluster.leader is other
    cluster.restart_exited()
    cluster.settle()


@scenario
def a_stop_is_not_lost_in_a_rebuild(cluster: ScenarioCluster) -> None:
    old = cluster.leader
    cluster.log(old).appends.fates.append(LOST)
    cluster.send()
    cluster.until(lambda: cluster.count("appends lost") == 1, 50, "the entry is lost")
    old.pause(700_000)  # it is deposed meanwhile, and then stops and rebuilds at once
    old.stopping = True
    cluster.process(old).inbox.put(m.StopRequested())
    cluster.until(lambda: not old.alive, 4_000, "it stops")
    cluster.restart_exited()
    cluster.settle()
