"""Requesting a snapshot from the coordinator, and waiting for it."""

from __future__ import annotations

from collections.abc import Collection

from loadtest.progress import show_status
from loadtest.waiting import wait_for
from postjournal.cli.coordinator import CoordinatorClient, SnapshotRow
from postjournal.cli.errors import OperationFailed

COORDINATOR = "coordinator"
TIMEOUT_S = 300.0
POLL_S = 0.05


def request_snapshot(coordinator: CoordinatorClient, shard: int) -> SnapshotRow:
    """Request a snapshot, again until the coordinator is ready and knows a standby."""
    reason = ""

    def accepted() -> list[SnapshotRow]:
        nonlocal reason
        try:
            return coordinator.request_snapshot(shard, allow_leader=False)[1]
        except OperationFailed as error:
            reason = str(error)
            return []

    return wait_for(accepted, lambda: f"no snapshot was accepted ({reason})", TIMEOUT_S)[0]


def wait_for_snapshot(
    coordinator: CoordinatorClient, snapshot_id: str, states: Collection[str] = ("done",)
) -> SnapshotRow:
    """Wait until the snapshot is in one of `states` or done.

    Raises `OperationFailed` if it failed, or is not there after five minutes.
    """

    def reached() -> SnapshotRow | None:
        (row,) = coordinator.snapshot(snapshot_id)
        show_status(f"snapshot {snapshot_id}: {row.state}")
        if row.state == "failed":
            raise OperationFailed(f"the snapshot failed: {row.error}")
        return row if row.state in (*states, "done") else None

    return wait_for(
        reached, lambda: f"snapshot {snapshot_id} is not done", TIMEOUT_S, poll_s=POLL_S
    )
