from __future__ import annotations

import pytest

from tests.simulation.scenarios import SCENARIOS
from tests.simulation.stage import Stage


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str) -> None:
    stage = Stage()
    try:
        SCENARIOS[name](stage)
    except BaseException:
        print("\n".join((stage.world.kernel.lines or [])[-60:]))  # noqa: T201 - pytest shows it
        raise
