"""Outputs leave the shard in order and without a gap."""

from __future__ import annotations

import pytest

from postjournal.core import messages as m
from postjournal.core.errors import SinkAhead
from tests.simulation.scenario_cluster import ScenarioCluster
from tests.simulation.scenarios.registry import scenario


@scenario
def a_resumed_zombie_that_publishes_late_only_adds_duplicates(cluster: ScenarioCluster) -> None:
    old = cluster.leader
    cluster.schedule_fault(old, "publish", pause_ms=1_500)
    cluster.send()
    cluster.until(lambda: old.paused_until_us is not None, 50, "it is about to publish")
    cluster.log(old).journal.hold()  # so that it publishes before it reads of its successor
    cluster.until(lambda: cluster.epoch == 2, 700, "another replica leads")
    cluster.send()
    cluster.until(lambda: cluster.published == 4, 200, "the new leader publishes both")
    cluster.until(lambda: cluster.count("outputs in a sink twice") > 0, 1_500, "the zombie too")
    cluster.log(old).journal.release()
    cluster.settle()
    cluster.leader.kill()  # the zombie wrote the last records of the sinks
    cluster.restart_exited()
    cluster.send()
    cluster.settle()
    assert cluster.published == 5


@scenario
def after_a_crash_between_publish_and_mark_publishing_resumes_at_the_tail(
    cluster: ScenarioCluster,
) -> None:
    cluster.send()
    cluster.until(lambda: cluster.published == 3, 50, "published")
    assert cluster.audit.fold.published["results"] == 2, "the journal does not show it yet"
    cluster.leader.kill()
    cluster.send()
    cluster.restart_exited()
    cluster.settle()
    assert cluster.published == 4
    assert cluster.count("outputs in a sink twice") == 0


@scenario
def publishing_resumes_at_the_mark_when_a_zombie_wrote_the_last_record(
    cluster: ScenarioCluster,
) -> None:
    for _ in range(5):
        cluster.send()
        cluster.settle()
    cluster.run(250)  # a heartbeat carries the mark
    mark = cluster.audit.fold.published["results"]
    assert mark == 7
    cluster.simulated.topics[0].sinks["results"].tail = 2  # as if a zombie had repeated record 1
    cluster.leader.kill()
    cluster.restart_exited()
    cluster.send()
    cluster.settle()
    assert cluster.count("outputs in a sink twice") == 0


@scenario
def the_first_publish_is_alone_in_flight(cluster: ScenarioCluster) -> None:
    old = cluster.leader
    cluster.producer(old).hold()
    for _ in range(3):
        cluster.send()
        cluster.run(20)
    for host in cluster.standbys:
        host.publish_us = 30_000
    old.kill()
    cluster.until(lambda: cluster.simulated.leader(0) is not None, 100, "another replica leads")
    producer = cluster.producer(cluster.leader)
    cluster.until(lambda: bool(producer.queue), 100, "it publishes")
    assert [len(request.value.values) for request in producer.queue] == [1]
    cluster.send()
    cluster.run(5)
    sent = sum(len(request.value.values) for request in producer.queue)
    assert sent <= 1 or cluster.published > 2, "no more before the first is acknowledged"
    cluster.restart_exited()
    cluster.settle()
    assert cluster.published == 6


@scenario
def a_failed_sink_preserves_order_and_leadership(cluster: ScenarioCluster) -> None:
    leader = cluster.leader
    cluster.simulated.profile.publish_fails = 0.5
    for _ in range(20):
        cluster.send()
        cluster.run(40)
    cluster.simulated.profile.publish_fails = 0.0
    cluster.settle()
    assert cluster.count("sink failures") > 3
    assert (cluster.epoch, cluster.leader) == (1, leader)


@scenario
def a_deposed_leader_does_not_halt_at_its_successors_outputs(
    cluster: ScenarioCluster,
) -> None:
    old = cluster.leader
    cluster.log(old).journal.hold()  # it does not read the journal; everything else works
    cluster.until(lambda: cluster.epoch == 2, 700, "another replica leads")
    cluster.send()
    cluster.until(lambda: cluster.published == 3, 200, "the new leader publishes")
    assert cluster.process(old).leads, "it has not read of its successor"
    cluster.log(old).deliver(m.PublishFailed("results", "the producer failed"))
    cluster.run(100)  # it reads a tail that the journal it has read does not explain
    cluster.log(old).journal.release()
    cluster.settle()
    assert not cluster.process(old).leads


@scenario
def a_sink_ahead_of_the_journal_halts_the_shard(cluster: ScenarioCluster) -> None:
    cluster.simulated.topics[0].sinks["results"].tail = 1_000
    cluster.leader.kill()
    with pytest.raises(SinkAhead):
        cluster.run(1_000)
