"""Somebody else writes as the leader, and the fold accepts it: only the journal's order counts."""

from __future__ import annotations

from postjournal.core import messages as m
from tests.simulation.host import Host
from tests.simulation.impostor import impose
from tests.simulation.journal_pipes import JournalPipe
from tests.simulation.kernel import MS
from tests.simulation.scenarios.registry import scenario
from tests.simulation.stage import Stage


@scenario
def an_accepted_entry_of_somebody_else_ends_the_leadership_and_counts(stage: Stage) -> None:
    old = stage.leader
    incarnation = stage.seat(old).replica.incarnation
    _let_an_impostor_decide(stage)
    stage.until(lambda: not stage.seat(old).leads, 50, "the leader has read it")
    stage.settle()
    assert (stage.epoch, stage.audit.fold.next_seq, stage.published) == (2, 3, 3)
    assert stage.seat(old).replica.incarnation == incarnation, "nothing of its own was lost"


@scenario
def a_leader_whose_entries_in_flight_lose_to_somebody_elses_rebuilds(stage: Stage) -> None:
    old = stage.leader
    pipe = _hold_entries_in_flight(stage, old)
    impose(stage.world, 0, "entry")
    stage.until(lambda: stage.count("rebuilds") == 1, 50, "the leader has read it")
    pipe.release()
    stage.settle()
    assert stage.count("void entries") + stage.count("alarms at forged entries") == 1
    assert (stage.epoch, stage.audit.fold.next_seq, stage.published) == (2, 5, 5)


@scenario
def a_leader_that_is_to_stop_stops_at_somebody_elses_entry(stage: Stage) -> None:
    old = stage.leader
    pipe = _hold_entries_in_flight(stage, old)
    old.stopping = True
    stage.seat(old).inbox.put(m.StopRequested())
    stage.run(20)
    assert old.alive, "it waits for what is in flight"
    impose(stage.world, 0, "entry")
    stage.until(lambda: not old.alive, 50, "it stops")
    pipe.release()
    stage.restart_dead()
    stage.settle()
    assert (stage.audit.fold.next_seq, stage.published) == (5, 5)


@scenario
def a_lone_leader_leads_again_after_somebody_elses_entry(stage: Stage) -> None:
    for other in stage.standbys:
        other.kill()
    _let_an_impostor_decide(stage)
    stage.until(lambda: stage.epoch == 2, 700, "it leads again")
    stage.restart_dead()
    stage.settle()
    assert (stage.audit.fold.next_seq, stage.published) == (3, 3)


@scenario
def somebody_elses_heartbeat_ends_nothing(stage: Stage) -> None:
    leader = stage.leader
    pipe = _hold_entries_in_flight(stage, leader)
    impose(stage.world, 0, "heartbeat")
    stage.run(20)
    pipe.release()
    stage.settle()
    assert (stage.epoch, stage.leader, stage.published) == (1, leader, 5)


@scenario
def somebody_elses_resignation_ends_the_leadership(stage: Stage) -> None:
    pipe = _hold_entries_in_flight(stage, stage.leader)
    impose(stage.world, 0, "resign")
    stage.until(lambda: stage.epoch == 2, 50, "somebody else leads")
    pipe.release()
    stage.settle()
    assert (stage.count("rebuilds"), stage.audit.fold.next_seq, stage.published) == (1, 5, 5)


def _let_an_impostor_decide(stage: Stage) -> None:
    """A command of which the leader has not read."""
    source = stage.world.topics[0].sources["ledger.commands"]
    source.stalled_until_us = stage.world.kernel.now_us + 100 * MS
    stage.send()
    impose(stage.world, 0, "entry")


def _hold_entries_in_flight(stage: Stage, leader: Host) -> JournalPipe:
    """An entry of three commands does not get through."""
    pipe = stage.log(leader).appends
    pipe.hold()
    for _ in range(3):
        stage.send()
    stage.run(10)
    leadership = stage.seat(leader).replica.leadership
    assert leadership is not None
    assert leadership.has_unconfirmed_entries
    return pipe
