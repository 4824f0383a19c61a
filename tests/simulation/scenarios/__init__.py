"""The holes that design.md names, each as a schedule made by hand. Names are promises.

`python -m tests.simulation --scenario NAME` prints a trace.
"""

from tests.simulation.scenarios import (
    claims,
    duplicates,
    entries,
    forged_records,
    handovers,
    reads,
    sinks,
    snapshots,
)
from tests.simulation.scenarios.registry import SCENARIOS

__all__ = [
    "SCENARIOS",
    "claims",
    "duplicates",
    "entries",
    "forged_records",
    "handovers",
    "reads",
    "sinks",
    "snapshots",
]
