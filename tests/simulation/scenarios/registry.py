"""The list of scenarios."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation.stage import Stage

SCENARIOS: dict[str, Callable[[Stage], None]] = {}


def scenario(play: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """Put it on the list. Its name is a promise."""
    assert play.__name__ not in SCENARIOS
    SCENARIOS[play.__name__] = play
    return play
