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
        ("core.tenure", leader_bugs.TENURE),
        ("core.outbox", leader_bugs.OUTBOX),
        ("core.reads", leader_bugs.READS),
        ("core.machine", state_bugs.MACHINE),
        ("core.dedupe", state_bugs.DEDUPE),
        ("core.snapshot", state_bugs.SNAPSHOT),
        ("core.taking", state_bugs.TAKING),
        ("recovery", state_bugs.RECOVERY),
        ("runtime", state_bugs.RUNTIME),
    )
    for name, (right, wrong) in bugs.items()
}
