"""The list of planted bugs by name, with the module of the engine that each changes.

All are in core, runtime and recovery: code that production runs as well.
"""

from __future__ import annotations

from tests.simulation.planted import (
    leader_bugs,
    progress_bugs,
    release_bugs,
    replica_bugs,
    state_bugs,
)
from tests.simulation.planted.planting import Bug

BUGS: dict[str, Bug] = {
    name: Bug(f"postjournal.{module}", *change)
    for module, changes in (
        ("core.fold", replica_bugs.FOLD),
        ("core.replica", replica_bugs.REPLICA),
        ("core.liveness.failure_detector", replica_bugs.DETECTOR),
        ("core.leadership", leader_bugs.LEADERSHIP),
        ("core.leadership", progress_bugs.LEADERSHIP),
        ("core.liveness.impairment", progress_bugs.IMPAIRMENT),
        ("core.replica", progress_bugs.REPLICA),
        ("core.state.outbox", leader_bugs.OUTBOX),
        ("core.reads", leader_bugs.READS),
        ("core.state.state_machine", state_bugs.STATE_MACHINE),
        ("core.state.state_machine", release_bugs.STATE_MACHINE),
        ("core.snapshot.image", release_bugs.IMAGE),
        ("core.state.apply_guard", release_bugs.GUARD),
        ("core.replica", release_bugs.REPLICA),
        ("core.state.dedupe", state_bugs.DEDUPE),
        ("core.snapshot.image", state_bugs.SNAPSHOT),
        ("core.snapshotting", state_bugs.SNAPSHOT_TAKER),
        ("recovery.choice", state_bugs.RECOVERY),
        ("runtime", state_bugs.RUNTIME),
    )
    for name, change in changes.items()
}
