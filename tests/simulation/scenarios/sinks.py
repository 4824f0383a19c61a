"""What leaves the shard: in order, without a gap."""

from __future__ import annotations

import pytest

from postjournal.core import messages as m
from postjournal.core.errors import SinkAhead
from tests.simulation.scenarios.registry import scenario
from tests.simulation.stage import Stage


@scenario
def a_resumed_zombie_that_publishes_late_only_makes_duplicates(stage: Stage) -> None:
    old = stage.leader
    stage.strike(old, "publish", pause_ms=1_500)
    stage.send()
    stage.until(lambda: old.paused_until_us is not None, 50, "it is about to publish")
    stage.log(old).journal.hold()  # resumed, it publishes before it hears of the others
    stage.until(lambda: stage.epoch == 2, 700, "somebody else leads")
    stage.send()
    stage.until(lambda: stage.published == 4, 200, "the new leader publishes both")
    stage.until(lambda: stage.count("outputs in a sink twice") > 0, 1_500, "the zombie too")
    stage.log(old).journal.release()
    stage.settle()
    stage.leader.kill()  # the sinks' last records are the zombie's now
    stage.restart_dead()
    stage.send()
    stage.settle()
    assert stage.published == 5


@scenario
def after_a_crash_between_publish_and_mark_publishing_goes_on_at_the_tail(stage: Stage) -> None:
    stage.send()
    stage.until(lambda: stage.published == 3, 50, "published")
    assert stage.audit.fold.published["results"] == 2, "and no record of the journal says so"
    stage.leader.kill()
    stage.send()
    stage.restart_dead()
    stage.settle()
    assert stage.published == 4
    assert stage.count("outputs in a sink twice") == 0


@scenario
def the_mark_counts_when_a_zombie_wrote_the_last_record(stage: Stage) -> None:
    for _ in range(5):
        stage.send()
        stage.settle()
    stage.run(250)  # a heartbeat brings the mark
    mark = stage.audit.fold.published["results"]
    assert mark == 7
    stage.world.topics[0].sinks["results"].tail = 2  # as if a zombie had repeated record 1
    stage.leader.kill()
    stage.restart_dead()
    stage.send()
    stage.settle()
    assert stage.count("outputs in a sink twice") == 0


@scenario
def the_first_publish_is_alone_in_flight(stage: Stage) -> None:
    old = stage.leader
    stage.pipe(old).hold()
    for _ in range(3):
        stage.send()
        stage.run(20)
    for host in stage.standbys:
        host.publish_us = 30_000
    old.kill()
    stage.until(lambda: stage.world.leader(0) is not None, 100, "somebody else leads")
    pipe = stage.pipe(stage.leader)
    stage.until(lambda: bool(pipe.queue), 100, "it publishes")
    assert [len(request.value.values) for request in pipe.queue] == [1]
    stage.send()
    stage.run(5)
    sent = sum(len(request.value.values) for request in pipe.queue)
    assert sent <= 1 or stage.published > 2, "no more before the first is acknowledged"
    stage.restart_dead()
    stage.settle()
    assert stage.published == 6


@scenario
def a_failed_sink_costs_neither_order_nor_leadership(stage: Stage) -> None:
    leader = stage.leader
    stage.world.profile.publish_fails = 0.5
    for _ in range(20):
        stage.send()
        stage.run(40)
    stage.world.profile.publish_fails = 0.0
    stage.settle()
    assert stage.count("sink failures") > 3
    assert (stage.epoch, stage.leader) == (1, leader)


@scenario
def a_deposed_leader_that_sees_its_successors_outputs_is_not_halted(stage: Stage) -> None:
    old = stage.leader
    stage.log(old).journal.hold()  # it reads the journal no more; all else works
    stage.until(lambda: stage.epoch == 2, 700, "somebody else leads")
    stage.send()
    stage.until(lambda: stage.published == 3, 200, "the new leader publishes")
    assert stage.seat(old).leads, "as far as it knows"
    stage.log(old)._teller()(m.PublishFailed("results", "the producer failed"))
    stage.run(100)  # it reads a tail that its journal does not explain
    stage.log(old).journal.release()
    stage.settle()
    assert not stage.seat(old).leads


@scenario
def a_sink_that_is_really_ahead_halts_the_shard(stage: Stage) -> None:
    stage.world.topics[0].sinks["results"].tail = 1_000
    stage.leader.kill()
    with pytest.raises(SinkAhead):
        stage.run(1_000)
