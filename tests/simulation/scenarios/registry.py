"""The list of scenarios."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation.scenario_cluster import ScenarioCluster

SCENARIOS: dict[str, Callable[[ScenarioCluster], None]] = {}


def scenario(play: Callable[[ScenarioCluster], None]) -> Callable[[ScenarioCluster], None]:
    """Put it on the list. Its name is a promise."""
    assert play.__name__ not in SCENARIOS
    SCENARIOS[play.__name__] = play
    return play
