"""Claims: when the leadership moves and when it does not."""

from __future__ import annotations

from postjournal.core.roles import Role
from tests.simulation.scenario_cluster import ScenarioCluster
from tests.simulation.scenarios.registry import scenario


@scenario
def a_claim_that_missed_the_leaders_last_record_is_void(cluster: ScenarioCluster) -> None:
    leader, standby = cluster.leader, cluster.standbys[0]
    cluster.log(standby).journal.hold()
    cluster.run(150)  # the leader appends heartbeats that the standby does not read
    cluster.process(standby).tripwire.fire()
    cluster.run(60)  # a record read later than this after the tripwire would be a sign of life
    assert (cluster.count("void claims"), cluster.epoch, cluster.leader) == (1, 1, leader)
    cluster.log(standby).journal.release()
    cluster.settle()
    assert (cluster.epoch, cluster.process(standby).replica.role) == (1, Role.STANDBY)


@scenario
def of_two_claims_the_first_wins_and_the_other_is_void(cluster: ScenarioCluster) -> None:
    cluster.leader.kill()
    cluster.run(40)
    assert cluster.epoch == 2
    assert cluster.count("void claims") <= 1
    cluster.restart_exited()
    cluster.settle()
    assert cluster.epoch == 2


@scenario
def a_late_claim_of_a_dead_process_is_void(cluster: ScenarioCluster) -> None:
    first, other = cluster.standbys
    cluster.log(first).claims.hold()
    cluster.process(first).tripwire.fire()
    cluster.run(20)
    first.kill()
    cluster.send()
    cluster.run(20)
    cluster.log(first).claims.release()
    cluster.run(50)
    assert (cluster.count("void claims"), cluster.epoch) == (1, 1)
    cluster.restart_exited()
    cluster.settle()
    assert other in cluster.standbys


@scenario
def a_killed_leader_is_replaced_within_30_ms(cluster: ScenarioCluster) -> None:
    cluster.leader.kill()
    cluster.run(30)
    assert cluster.process(cluster.leader).replica.role is Role.LEADER


@scenario
def a_silent_leader_is_replaced_after_silence_ms(cluster: ScenarioCluster) -> None:
    leader = cluster.leader
    leader.pause(2_000_000)
    cluster.run(390)
    assert cluster.epoch == 1
    cluster.run(150)
    assert cluster.epoch == 2
    cluster.settle()


@scenario
def a_cluster_without_faults_keeps_its_leader(cluster: ScenarioCluster) -> None:
    leader = cluster.leader
    cluster.run(10_000)
    assert (cluster.epoch, cluster.leader, cluster.count("void claims")) == (1, leader, 0)
    cluster.settle()


@scenario
def an_unavailable_broker_does_not_end_the_leadership(cluster: ScenarioCluster) -> None:
    leader = cluster.leader
    cluster.send()
    cluster.simulated.set_broker(available=False)
    cluster.run(5_000)
    cluster.simulated.set_broker(available=True)
    cluster.settle()
    assert (cluster.epoch, cluster.leader) == (1, leader)
