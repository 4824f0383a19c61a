"""Handovers and graceful stops."""

from __future__ import annotations

from postjournal.core import messages as m
from tests.simulation.journal_pipes import LOST
from tests.simulation.scenarios.registry import scenario
from tests.simulation.stage import Stage


@scenario
def a_handover_takes_less_than_thirty_ms_and_goes_to_the_successor(stage: Stage) -> None:
    successor = stage.standbys[1]
    stage.seat(stage.leader).inbox.put(m.HandoverRequested(successor.name))
    stage.run(30)
    assert (stage.leader, stage.epoch) == (successor, 2)
    stage.settle()


@scenario
def a_handover_under_load_finishes_what_is_in_flight(stage: Stage) -> None:
    old = stage.leader
    for _ in range(20):
        stage.send()
        stage.run(0.3)
    stage.seat(old).inbox.put(m.HandoverRequested(None))
    stage.settle()
    assert (stage.epoch, stage.count("rebuilds"), stage.count("void entries")) == (2, 0, 0)
    assert stage.count("outputs in a sink twice") == 0


@scenario
def a_handover_to_a_dead_successor_goes_to_another(stage: Stage) -> None:
    successor, other = stage.standbys
    successor.kill()
    stage.seat(stage.leader).inbox.put(m.HandoverRequested(successor.name))
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
    stage.seat(old).inbox.put(m.StopRequested())
    stage.until(lambda: not old.alive, 4_000, "it stops")
    stage.restart_dead()
    stage.settle()
