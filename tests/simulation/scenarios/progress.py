"""A leader whose source or sink stands still, and the replicas that try after it."""

from __future__ import annotations

from tests.simulation.scenario_cluster import ScenarioCluster
from tests.simulation.scenarios.registry import scenario

STALL_MS = 10_000


@scenario
def a_leader_that_does_not_receive_a_source_is_replaced(cluster: ScenarioCluster) -> None:
    old = cluster.leader
    cluster.simulated.set_blocked(old, "ledger.commands", blocked=True)
    cluster.send()
    cluster.run(STALL_MS - 1_000)
    assert cluster.leader is old
    cluster.until(cluster.simulated.works, 3_000 + STALL_MS, "another replica decides the command")
    assert cluster.leader is not old
    assert cluster.epoch == 2


@scenario
def a_leader_that_does_not_reach_a_sink_is_replaced(cluster: ScenarioCluster) -> None:
    old = cluster.leader
    cluster.simulated.set_blocked(old, "results", blocked=True)
    cluster.send()
    cluster.run(STALL_MS - 1_000)
    assert (cluster.leader, cluster.published) == (old, 2)
    cluster.until(lambda: cluster.published == 3, 5_000, "another replica publishes the result")
    assert cluster.leader is not old
    cluster.run(STALL_MS)
    assert cluster.epoch == 2, "the replica that failed has not claimed again"


@scenario
def of_replicas_that_do_not_reach_a_sink_the_last_one_leads_and_stays(
    cluster: ScenarioCluster,
) -> None:
    for host in cluster.hosts:
        cluster.simulated.set_blocked(host, "results", blocked=True)
    cluster.send()
    cluster.run(4 * (STALL_MS + 2_000))
    epoch = cluster.epoch
    assert epoch == 4, "each of the three has tried, then one leads again"
    cluster.run(10_000)
    assert cluster.epoch == epoch
    for host in cluster.hosts:
        cluster.simulated.set_blocked(host, "results", blocked=False)
    cluster.settle()
    assert (cluster.epoch, cluster.published) == (epoch, 3)


@scenario
def an_unavailable_broker_impairs_no_leader(cluster: ScenarioCluster) -> None:
    leader = cluster.leader
    cluster.send()
    cluster.simulated.set_broker(available=False)
    cluster.run(3 * STALL_MS)
    cluster.simulated.set_broker(available=True)
    cluster.settle()
    assert (cluster.leader, cluster.count("impairments")) == (leader, 0)
