"""Linearizable answers are not stale, whatever happens to the leader."""

from __future__ import annotations

from tests.simulation.journal_producers import TWICE
from tests.simulation.scenario_cluster import ScenarioCluster
from tests.simulation.scenarios.registry import scenario


@scenario
def a_leader_paused_before_a_query_does_not_answer_stale(cluster: ScenarioCluster) -> None:
    old = cluster.leader
    old.pause(1_000_000)
    cluster.until(lambda: cluster.epoch == 2, 700, "another replica leads")
    cluster.send()
    cluster.until(lambda: cluster.published == 3, 100, "the new leader decides")
    query = cluster.query(old)
    cluster.settle()
    assert query.answered
    assert query.error in ("not_leader", "not_ready")


@scenario
def a_leader_paused_before_its_barrier_does_not_answer_stale(cluster: ScenarioCluster) -> None:
    old = cluster.leader
    cluster.schedule_fault(old, "append", pause_ms=1_000)
    query = cluster.query(old)
    cluster.until(lambda: cluster.epoch == 2, 700, "another replica leads")
    cluster.settle()
    assert query.answered
    assert query.error in ("not_leader", "not_ready")


@scenario
def a_leader_that_has_not_read_its_successors_claim_does_not_answer_stale(
    cluster: ScenarioCluster,
) -> None:
    old = cluster.leader
    cluster.log(old).journal.hold()
    cluster.until(lambda: cluster.epoch == 2, 700, "another replica leads")
    cluster.send()
    cluster.until(lambda: cluster.published == 3, 100, "the new leader decides")
    query = cluster.query(old)
    cluster.run(100)
    assert not query.answered
    cluster.log(old).journal.release()
    cluster.settle()
    assert query.answered
    assert query.error in ("not_leader", "not_ready")


@scenario
def a_heartbeat_that_landed_twice_does_not_confirm_a_later_barrier(
    cluster: ScenarioCluster,
) -> None:
    old = cluster.leader
    cluster.simulated.profile.wall_grain_ms = 1_000_000_000  # all its heartbeats have the same time
    cluster.log(old).appends.fates.append(TWICE)
    first = cluster.query(old)
    cluster.until(lambda: first.answered, 50, "it has read its barrier back")
    cluster.log(old).journal.hold()
    for source in cluster.log(old).sources.values():
        source.hold()
    cluster.until(
        lambda: cluster.count("appends landed twice") == 1, 5_000, "the heartbeat landed again"
    )
    cluster.process(cluster.standbys[0]).tripwire.fire()
    cluster.until(lambda: cluster.epoch == 2, 700, "another replica leads")
    cluster.send()
    cluster.until(lambda: cluster.published == 3, 100, "the new leader decides")
    query = cluster.query(old)
    cluster.run(20)
    cluster.log(old).journal.release()
    cluster.settle()
    assert query.answered
    assert query.error in ("not_leader", "not_ready")
