"""The registry of all scenarios by name."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation.scenario_cluster import ScenarioCluster

SCENARIOS: dict[str, Callable[[ScenarioCluster], None]] = {}


def scenario(play: Callable[[ScenarioCluster], None]) -> Callable[[ScenarioCluster], None]:
    """Register a scenario under the name of its function."""
    assert play.__name__ not in SCENARIOS
    SCENARIOS[play.__name__] = play
    return play
