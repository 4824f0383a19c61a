"""The holes that design.md names, each as a schedule made by hand. Names are promises.

`python -m tests.simulation --scenario NAME` prints a trace.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from postjournal.core import messages as m
from postjournal.core.errors import SinkAhead
from postjournal.core.replica import Role
from tests.simulation.pipes import LOST, TWICE, UNACKNOWLEDGED
from tests.simulation.stage import Stage

SCENARIOS: dict[str, Callable[[Stage], None]] = {}


def scenario(play: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """Put it on the list."""
    SCENARIOS[play.__name__] = play
    return play


# --- claims ------------------------------------------------------------------------------------


@scenario
def a_claim_that_has_not_seen_the_leader_alive_is_void(stage: Stage) -> None:
    leader, standby = stage.leader, stage.standbys[0]
    stage.log(standby).journal.hold()
    stage.run(150)  # the leader shows life, the standby does not see it
    stage.seat(standby).tripwire.fire()
    stage.run(60)  # what it reads later than that after the tripwire does prove life
    assert (stage.count("void claims"), stage.epoch, stage.leader) == (1, 1, leader)
    stage.log(standby).journal.release()
    stage.settle()
    assert (stage.epoch, stage.seat(standby).replica.role) == (1, Role.STANDBY)


@scenario
def of_two_claims_the_first_wins_and_the_other_is_void(stage: Stage) -> None:
    stage.leader.kill()
    stage.run(40)
    assert stage.epoch == 2
    assert stage.count("void claims") <= 1
    stage.restart_dead()
    stage.settle()
    assert stage.epoch == 2


@scenario
def a_late_claim_of_a_dead_process_is_void(stage: Stage) -> None:
    first, other = stage.standbys
    stage.log(first).claims.hold()
    stage.seat(first).tripwire.fire()
    stage.run(20)
    first.kill()
    stage.send()
    stage.run(20)
    stage.log(first).claims.release()
    stage.run(50)
    assert (stage.count("void claims"), stage.epoch) == (1, 1)
    stage.restart_dead()
    stage.settle()
    assert other in stage.standbys


@scenario
def a_killed_leader_is_replaced_within_thirty_ms(stage: Stage) -> None:
    stage.leader.kill()
    stage.run(30)
    assert stage.seat(stage.leader).replica.role is Role.LEADER


@scenario
def a_silent_leader_is_replaced_after_silence(stage: Stage) -> None:
    leader = stage.leader
    leader.pause(2_000_000)
    stage.run(390)
    assert stage.epoch == 1
    stage.run(150)
    assert stage.epoch == 2
    stage.settle()


@scenario
def an_absent_broker_does_not_cost_the_leadership(stage: Stage) -> None:
    leader = stage.leader
    stage.send()
    stage.world.set_broker(away=True)
    stage.run(5_000)
    stage.world.set_broker(away=False)
    stage.settle()
    assert (stage.epoch, stage.leader) == (1, leader)


# --- entries -----------------------------------------------------------------------------------


@scenario
def a_zombie_leaders_late_entry_is_void(stage: Stage) -> None:
    old = stage.leader
    stage.log(old).appends.hold()
    pipe = stage.log(old).appends
    stage.send()
    stage.run(20)
    old.kill()
    stage.until(lambda: stage.published == 3, 200, "the new leader decides it")
    pipe.release()
    stage.run(20)
    assert (stage.count("void entries"), stage.count("zombie appends after a claim")) == (1, 1)
    stage.restart_dead()
    stage.settle()
    assert stage.audit.fold.next_seq == 3


@scenario
def a_leader_whose_entries_cannot_land_loses_office(stage: Stage) -> None:
    old = stage.leader
    pipe = stage.log(old).appends
    pipe.hold()
    stage.send()
    stage.run(10)
    under_way = len(pipe.queue)
    stage.until(lambda: stage.epoch == 2, 700, "somebody else leads")
    assert (under_way, len(pipe.queue)) == (1, 1), "no heartbeat while the entry is under way"
    pipe.release()
    stage.settle()
    assert stage.count("rebuilds") == 1


@scenario
def a_deposed_leader_whose_entries_never_landed_rebuilds(stage: Stage) -> None:
    old = stage.leader
    incarnation = stage.seat(old).replica.incarnation
    stage.log(old).appends.fates.append(LOST)
    stage.send()
    stage.until(lambda: stage.count("appends lost") == 1, 50, "the entry is lost")
    stage.world.set_cut(old, cut=True)  # nor does it hear of the failure
    stage.until(lambda: stage.epoch == 2, 700, "somebody else leads")
    stage.world.set_cut(old, cut=False)
    stage.settle()
    assert stage.seat(old).replica.incarnation != incarnation


@scenario
def a_deposed_leader_with_nothing_undecided_becomes_a_standby(stage: Stage) -> None:
    old = stage.leader
    incarnation = stage.seat(old).replica.incarnation
    stage.world.set_cut(old, cut=True)
    stage.until(lambda: stage.epoch == 2, 700, "somebody else leads")
    stage.world.set_cut(old, cut=False)
    stage.settle()
    assert stage.seat(old).replica.incarnation == incarnation
    assert stage.count("rebuilds") == 0


@scenario
def a_gap_in_the_own_records_ends_leadership(stage: Stage) -> None:
    old = stage.leader
    old.append_us = 20_000
    stage.log(old).appends.fates.append(LOST)
    stage.send()
    stage.run(3)
    for _ in range(300):  # a second entry joins the pipeline only when it is worth it
        stage.send()
    stage.until(lambda: stage.count("void entries") > 0, 200, "an entry over a gap")
    stage.until(lambda: not stage.seat(old).leads, 10, "it has seen it")
    stage.settle()
    assert (stage.epoch, stage.count("rebuilds")) == (2, 1)


@scenario
def a_failed_append_ends_leadership_though_it_landed(stage: Stage) -> None:
    old = stage.leader
    stage.log(old).appends.fates.append(UNACKNOWLEDGED)
    stage.send()
    stage.until(lambda: not stage.seat(old).leads, 1_300, "it hears of the failure")
    stage.settle()
    assert (stage.epoch, stage.count("rebuilds")) == (2, 0), "the entry was read back before"


@scenario
def an_append_that_lands_twice_ends_nothing(stage: Stage) -> None:
    leader = stage.leader
    for count in range(1, 4):
        stage.log(leader).appends.fates.append(TWICE)
        stage.send()
        stage.until(partial(_has_landed_twice, stage, count), 5_000, "it landed twice")
    stage.settle()
    assert (stage.epoch, stage.leader) == (1, leader)


def _has_landed_twice(stage: Stage, count: int) -> bool:
    return stage.count("appends landed twice") == count


@scenario
def a_void_record_of_somebody_else_ends_nothing(stage: Stage) -> None:
    leader = stage.leader
    for action in (stage.simulation.nemesis.foreign_record, stage.simulation.nemesis.forged_entry):
        for _ in range(10):
            action()
    stage.settle()
    assert (stage.epoch, stage.leader) == (1, leader)


# --- sinks -------------------------------------------------------------------------------------


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
    assert [len(request.value) for request in pipe.queue] == [1]
    stage.send()
    stage.run(5)
    sent = sum(len(request.value) for request in pipe.queue)
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


# --- reads -------------------------------------------------------------------------------------


@scenario
def a_leader_paused_with_a_question_does_not_answer_stale(stage: Stage) -> None:
    old = stage.leader
    old.pause(1_000_000)
    stage.until(lambda: stage.epoch == 2, 700, "somebody else leads")
    stage.send()
    stage.until(lambda: stage.published == 3, 100, "the new leader decides")
    query = stage.ask(old)
    stage.settle()
    assert (query.answered, query.error) == (True, "not_leader")


@scenario
def a_leader_paused_before_its_barrier_does_not_answer_stale(stage: Stage) -> None:
    old = stage.leader
    stage.strike(old, "append", pause_ms=1_000)
    query = stage.ask(old)
    stage.until(lambda: stage.epoch == 2, 700, "somebody else leads")
    stage.settle()
    assert (query.answered, query.error) == (True, "not_leader")


@scenario
def a_leader_that_has_not_read_of_its_successor_does_not_answer_stale(stage: Stage) -> None:
    old = stage.leader
    stage.log(old).journal.hold()
    stage.until(lambda: stage.epoch == 2, 700, "somebody else leads")
    stage.send()
    stage.until(lambda: stage.published == 3, 100, "the new leader decides")
    query = stage.ask(old)
    stage.run(100)
    assert not query.answered
    stage.log(old).journal.release()
    stage.settle()
    assert (query.answered, query.error) == (True, "not_leader")


# --- duplicates --------------------------------------------------------------------------------


@scenario
def a_repeat_after_a_takeover_is_answered_with_the_first_outcome(stage: Stage) -> None:
    command = {"id": "once", "type": "deposit", "account": "a0", "amount": 7}
    stage.send(command)
    stage.settle()
    stage.leader.kill()
    stage.send(command | {"amount": 70_000})
    stage.restart_dead()
    stage.settle()
    first, repeat = (each for each in stage.results() if each["id"] == "once")
    assert (first["replayed"], repeat["replayed"]) == (False, True)
    assert first["balances"] == repeat["balances"] == {"a0": 107}


@scenario
def a_rejection_is_remembered_over_a_takeover(stage: Stage) -> None:
    command = {"id": "once", "type": "withdraw", "account": "a0", "amount": 5_000}
    stage.send(command)
    stage.settle()
    stage.leader.kill()
    stage.send({"type": "deposit", "account": "a0", "amount": 10_000})
    stage.send(command)
    stage.restart_dead()
    stage.settle()
    first, repeat = (each for each in stage.results() if each["id"] == "once")
    assert first["reason"] == repeat["reason"] == "insufficient_funds"


# --- handing over ------------------------------------------------------------------------------


@scenario
def a_handover_takes_less_than_thirty_ms_and_goes_to_the_successor(stage: Stage) -> None:
    successor = stage.standbys[1]
    stage.seat(stage.leader).inbox.put(m.HandoverAsked(successor.name))
    stage.run(30)
    assert (stage.leader, stage.epoch) == (successor, 2)
    stage.settle()


@scenario
def a_handover_under_load_finishes_what_is_in_flight(stage: Stage) -> None:
    old = stage.leader
    for _ in range(20):
        stage.send()
        stage.run(0.3)
    stage.seat(old).inbox.put(m.HandoverAsked(None))
    stage.settle()
    assert (stage.epoch, stage.count("rebuilds"), stage.count("void entries")) == (2, 0, 0)
    assert stage.count("outputs in a sink twice") == 0


@scenario
def a_handover_to_a_dead_successor_goes_to_another(stage: Stage) -> None:
    successor, other = stage.standbys
    successor.kill()
    stage.seat(stage.leader).inbox.put(m.HandoverAsked(successor.name))
    stage.run(150)
    assert stage.leader is other
    stage.restart_dead()
    stage.settle()


@scenario
def a_stop_is_not_lost_in_a_rebuild(stage: Stage) -> None:
    old = stage.leader
    stage.log(old).appends.fates.append(LOST)
    stage.send()
    stage.until(lambda: stage.count("appends lost") == 1, 50, "the entry is lost")
    old.pause(700_000)  # in which it is deposed; then both things are there at once
    old.stopping = True
    stage.seat(old).inbox.put(m.StopAsked())
    stage.until(lambda: not old.alive, 4_000, "it stops")
    stage.restart_dead()
    stage.settle()
