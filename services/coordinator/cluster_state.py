"""What the coordinator's handlers need."""

from __future__ import annotations

from dataclasses import dataclass

from services.coordinator.catalogue import Snapshots
from services.coordinator.following import ClusterState
from services.coordinator.maintenance import Appender, Part
from services.coordinator.metrics import Metrics


@dataclass(frozen=True)
class Coordinator:
    """What the handlers need."""

    cluster_state: ClusterState
    follower: Part
    maintenance: Part
    snapshots: Snapshots
    control: Appender
    metrics: Metrics
    shards: int
    token: str | None
    allow_crash: bool = False

    @property
    def unavailable_reason(self) -> str | None:
        """Why it cannot work now; None when it can."""
        reasons = (part.unavailable_reason for part in (self.follower, self.maintenance))
        return "; ".join(reason for reason in reasons if reason) or None
