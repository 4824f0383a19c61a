"""A command takes effect once, whoever leads."""

from __future__ import annotations

from tests.simulation.scenarios.registry import scenario
from tests.simulation.stage import Stage


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
