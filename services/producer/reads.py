"""Reads: query replicas until one answers, within a time budget."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, Literal

from postjournal.cluster.query_client import ReplicaBehind, ReplicaUnavailable
from services.producer.ports import ReplicaClient, ReplicaDirectory

Consistency = Literal["leader", "any"]

BUDGET_S = 3.0
"""Several times the length of a failover, also of one that is detected by silence."""

NEWS_S = 0.02


class Reader:
    """Reads from the first replica that answers."""

    def __init__(
        self,
        directory: ReplicaDirectory,
        client: ReplicaClient,
        now_s: Callable[[], float] = monotonic,
    ) -> None:
        """`now_s`: the clock of the time budget, in seconds."""
        self._directory, self._client, self._now_s = directory, client, now_s

    def read(
        self,
        shard: int,
        consistency: Consistency,
        parameters: dict[str, str],
        min_seq: int | None = None,
    ) -> dict[str, Any]:
        """Return a replica's answer, which accounts for the command `min_seq` of the shard.

        The leader is looked up again before each attempt: it may be changing. Raises
        `ReplicaUnavailable` with the last reason after three seconds; `ReplicaBehind` when a
        replica answered, but has not reached `min_seq`.
        """
        deadline = self._now_s() + BUDGET_S
        refusal = ReplicaUnavailable("no replica is known")
        asked = {**parameters, "consistency": consistency}
        if min_seq is not None:
            asked["min_seq"] = str(min_seq)
        while (left_s := deadline - self._now_s()) > 0:
            for address in self._addresses(shard, consistency):
                try:
                    return self._client.query(address, shard, asked, left_s)
                except ReplicaUnavailable as error:
                    refusal = _more_informative(refusal, error)
            self._directory.wait_for_update(min(NEWS_S, left_s))
        raise refusal

    def _addresses(self, shard: int, consistency: Consistency) -> list[str]:
        if consistency == "leader":
            return self._directory.leader_addresses(shard)
        return self._directory.reader_addresses(shard)


def _more_informative(before: ReplicaUnavailable, latest: ReplicaUnavailable) -> ReplicaUnavailable:
    """Of two replicas that are behind, the one that is further ahead; otherwise the latest."""
    if not isinstance(before, ReplicaBehind):
        return latest
    is_ahead = isinstance(latest, ReplicaBehind) and latest.seq >= before.seq
    return latest if is_ahead else before
