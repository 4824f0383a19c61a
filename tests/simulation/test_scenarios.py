from __future__ import annotations

import pytest

from tests.simulation.scenario_cluster import ScenarioCluster
from tests.simulation.scenarios import SCENARIOS


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str) -> None:
    cluster = ScenarioCluster()
    try:
        SCENARIOS[name](cluster)
    except BaseException:
        print("\n".join((cluster.simulated.loop.lines or [])[-60:]))  # noqa: T201 - pytest shows it
        raise
