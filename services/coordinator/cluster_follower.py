"""Reads the status and control topics into the `ClusterState`."""

from __future__ import annotations

from postjournal.adapters.kafka.client import TopicRecord
from postjournal.adapters.kafka.follower import FollowedTopic, Follower
from services.coordinator.cluster_state import ClusterState
from services.server import OnFatal

LOOK_BACK = 10_000
"""Records per shard read at the start: more than replicas publish while a snapshot is taken."""


class ClusterFollower:
    """Feeds a `ClusterState` from the status and control topics, in a thread for each."""

    def __init__(
        self,
        cluster_state: ClusterState,
        status: FollowedTopic,
        control: FollowedTopic,
        on_fatal: OnFatal,
    ) -> None:
        """Starts the threads. `on_fatal` is called with a configuration error."""

        def on_statuses(records: list[TopicRecord]) -> None:
            cluster_state.on_statuses(records, is_live=status.is_caught_up)

        def on_controls(records: list[TopicRecord]) -> None:
            cluster_state.on_controls(records, is_live=control.is_caught_up)

        self._followers = (
            Follower("status", status, on_statuses, needs_history=True),
            Follower("control", control, on_controls, needs_history=True),
        )
        for follower in self._followers:
            follower.start(on_fatal)

    @property
    def unavailable_reason(self) -> str | None:
        """Why the cluster's state is not complete; None when it is."""
        reasons = (follower.unavailable_reason for follower in self._followers)
        return next((reason for reason in reasons if reason is not None), None)

    def close(self) -> None:
        """End the threads, and wait some seconds for them."""
        for follower in self._followers:
            follower.stop()
        for follower in self._followers:
            follower.close()
