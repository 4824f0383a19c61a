"""What the coordinator's HTTP handlers use."""

from __future__ import annotations

from dataclasses import dataclass

from services.coordinator.cluster_state import ClusterState
from services.coordinator.metrics import Metrics
from services.coordinator.ports import Appender, Component
from services.coordinator.snapshots import Snapshots


@dataclass(frozen=True)
class Coordinator:
    """What the HTTP handlers use.

    `control`: appends to the control topic; `shards`: how many there are; `token`: required for
    requests that change the system, None: no token is required; `allow_crash`: whether replicas
    may be killed over HTTP.
    """

    cluster_state: ClusterState
    follower: Component
    maintenance: Component
    snapshots: Snapshots
    control: Appender
    metrics: Metrics
    shards: int
    token: str | None
    allow_crash: bool = False

    @property
    def unavailable_reason(self) -> str | None:
        """Why the coordinator cannot work now; None when it can."""
        reasons = (part.unavailable_reason for part in (self.follower, self.maintenance))
        return "; ".join(reason for reason in reasons if reason) or None
