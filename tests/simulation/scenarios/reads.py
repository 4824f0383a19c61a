"""Linearizable answers are never stale."""

from __future__ import annotations

from tests.simulation.journal_pipes import TWICE
from tests.simulation.scenarios.registry import scenario
from tests.simulation.stage import Stage


@scenario
def a_leader_paused_with_a_question_does_not_answer_stale(stage: Stage) -> None:
    old = stage.leader
    old.pause(1_000_000)
    stage.until(lambda: stage.epoch == 2, 700, "somebody else leads")
    stage.send()
    stage.until(lambda: stage.published == 3, 100, "the new leader decides")
    query = stage.ask(old)
    stage.settle()
    assert query.answered
    assert query.error in ("not_leader", "not_ready")


@scenario
def a_leader_paused_before_its_barrier_does_not_answer_stale(stage: Stage) -> None:
    old = stage.leader
    stage.strike(old, "append", pause_ms=1_000)
    query = stage.ask(old)
    stage.until(lambda: stage.epoch == 2, 700, "somebody else leads")
    stage.settle()
    assert query.answered
    assert query.error in ("not_leader", "not_ready")


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
    assert query.answered
    assert query.error in ("not_leader", "not_ready")


@scenario
def a_heartbeat_that_landed_twice_does_not_pass_for_a_later_barrier(stage: Stage) -> None:
    old = stage.leader
    stage.world.profile.wall_grain_ms = 1_000_000_000  # the same instant all the time
    stage.log(old).appends.fates.append(TWICE)
    first = stage.ask(old)
    stage.until(lambda: first.answered, 50, "it has read its barrier back")
    stage.log(old).journal.hold()
    for source in stage.log(old).sources.values():
        source.hold()
    stage.until(lambda: stage.count("appends landed twice") == 1, 5_000, "it landed again")
    stage.seat(stage.standbys[0]).tripwire.fire()
    stage.until(lambda: stage.epoch == 2, 700, "somebody else leads")
    stage.send()
    stage.until(lambda: stage.published == 3, 100, "the new leader decides")
    query = stage.ask(old)
    stage.run(20)
    stage.log(old).journal.release()
    stage.settle()
    assert query.answered
    assert query.error in ("not_leader", "not_ready")
