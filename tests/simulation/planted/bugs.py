"""The list of planted bugs. Their names say what goes wrong; `right` must stand once in the source.

All are in core, runtime and recovery: what production runs as well.
"""

from __future__ import annotations

from tests.simulation.planted import leader_bugs, replica_bugs, state_bugs
from tests.simulation.planted.planting import Bug

BUGS: dict[str, Bug] = {
    name: Bug(f"postjournal.{module}", right, wrong)
    for module, bugs in (
        ("core.fold", replica_bugs.FOLD),
        ("core.replica", replica_bugs.REPLICA),
        ("core.failure_detector", replica_bugs.DETECTOR),
        ("core.leadership", leader_bugs.LEADERSHIP),
        ("core.state.outbox", leader_bugs.OUTBOX),
        ("core.reads", leader_bugs.READS),
        ("core.state.state_machine", state_bugs.MACHINE),
        ("core.state.dedupe", state_bugs.DEDUPE),
        ("core.snapshot.image", state_bugs.SNAPSHOT),
        ("core.snapshotting", state_bugs.SNAPSHOT_TAKER),
        ("recovery.choice", state_bugs.RECOVERY),
        ("runtime", state_bugs.RUNTIME),
    )
    for name, (right, wrong) in bugs.items()
}
