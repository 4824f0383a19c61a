"""What a leader appends, and what its loss costs."""

from __future__ import annotations

from functools import partial

from postjournal.core import messages as m
from tests.simulation.host import Host
from tests.simulation.journal_pipes import LATE, LOST, TWICE, UNACKNOWLEDGED
from tests.simulation.scenarios.registry import scenario
from tests.simulation.stage import Stage


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
def a_failed_append_ends_each_leadership_of_an_incarnation(stage: Stage) -> None:
    old = stage.leader
    _lose_the_next_append(stage, old)
    stage.until(partial(_has_lost_office, stage, old), 150, "it ends by the failure alone")
    stage.settle()
    _lose_the_next_append(stage, old)  # the very first heartbeat when it leads again
    stage.seat(stage.leader).inbox.put(m.HandoverRequested(old.name))
    stage.until(partial(_is_epoch, stage, 3), 50, "it leads again")
    stage.run(50)
    assert not stage.seat(old).leads
    stage.settle()
    assert stage.count("rebuilds") == 0


@scenario
def a_broken_producer_costs_one_leadership_not_the_next(stage: Stage) -> None:
    old = stage.leader
    pipe = stage.log(old).appends
    pipe.fates.append(LATE)  # of a heartbeat: what became of it is told much later
    stage.until(lambda: not pipe.fates, 150, "a heartbeat that is not reported")
    pipe.is_broken = True
    stage.until(partial(_has_lost_office, stage, old), 150, "it cannot append")
    stage.until(partial(_is_epoch, stage, 2), 700, "somebody else leads")
    stage.seat(stage.leader).inbox.put(m.HandoverRequested(old.name))
    stage.until(partial(_is_epoch, stage, 3), 100, "it leads again")
    stage.send()
    stage.settle()
    assert (stage.epoch, stage.leader) == (3, old)


@scenario
def a_failed_append_ends_its_own_leadership_whatever_of_earlier_ones_is_not_reported(
    stage: Stage,
) -> None:
    old = stage.leader
    pipe = stage.log(old).appends
    pipe.fates.append(LATE)
    stage.until(lambda: not pipe.fates, 150, "a heartbeat that is not reported")
    stage.seat(old).inbox.put(m.HandoverRequested(None))
    stage.until(partial(_is_epoch, stage, 2), 100, "somebody else leads")
    stage.seat(stage.leader).inbox.put(m.HandoverRequested(old.name))
    stage.until(partial(_is_epoch, stage, 3), 100, "it leads again")
    stage.run(20)
    stage.log(old).appends.is_broken = True
    stage.until(partial(_has_lost_office, stage, old), 150, "it cannot append")
    stage.settle()


def _lose_the_next_append(stage: Stage, host: Host) -> None:
    pipe = stage.log(host).appends
    pipe.slowest_failure_us = 5_000
    pipe.fates.append(LOST)


def _is_epoch(stage: Stage, epoch: int) -> bool:
    return stage.epoch == epoch and stage.world.leader(0) is not None


def _has_lost_office(stage: Stage, host: Host) -> bool:
    return not stage.seat(host).leads


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
