"""Scripted schedules, among them every attack of docs/protocol.md. Their names are promises.

`python -m tests.simulation --scenario NAME` prints a trace.
"""

from tests.simulation.scenarios import (
    claims,
    duplicates,
    entries,
    forged_records,
    handovers,
    progress,
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
    "progress",
    "reads",
    "sinks",
    "snapshots",
]
