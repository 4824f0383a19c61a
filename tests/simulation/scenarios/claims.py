"""Who leads, and when somebody else does."""

from __future__ import annotations

from postjournal.core.roles import Role
from tests.simulation.scenarios.registry import scenario
from tests.simulation.stage import Stage


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
