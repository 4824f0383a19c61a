"""A command takes effect once, across takeovers too."""

from __future__ import annotations

from tests.simulation.scenario_cluster import ScenarioCluster
from tests.simulation.scenarios.registry import scenario


@scenario
def a_repeat_after_a_takeover_is_answered_with_the_first_outcome(cluster: ScenarioCluster) -> None:
    command = {"id": "once", "type": "deposit", "account": "a0", "amount": 7}
    cluster.send(command)
    cluster.settle()
    cluster.leader.kill()
    cluster.send(command | {"amount": 70_000})
    cluster.restart_exited()
    cluster.settle()
    first, repeat = (result for result in cluster.results() if result["id"] == "once")
    assert (first["replayed"], repeat["replayed"]) == (False, True)
    assert first["balances"] == repeat["balances"] == {"a0": 107}


@scenario
def a_rejection_is_remembered_over_a_takeover(cluster: ScenarioCluster) -> None:
    command = {"id": "once", "type": "withdraw", "account": "a0", "amount": 5_000}
    cluster.send(command)
    cluster.settle()
    cluster.leader.kill()
    cluster.send({"type": "deposit", "account": "a0", "amount": 10_000})
    cluster.send(command)
    cluster.restart_exited()
    cluster.settle()
    first, repeat = (result for result in cluster.results() if result["id"] == "once")
    assert first["reason"] == repeat["reason"] == "insufficient_funds"
