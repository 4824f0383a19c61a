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

UPDATE_TIMEOUT_S = 0.02
"""The time between two attempts when no status record arrives: a replica can become reachable
without writing one."""


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

        `parameters`: the application's query. The leader is looked up again before each attempt,
        because it may be changing. After `BUDGET_S` seconds, raises `ReplicaBehind` if a replica
        answered and had not reached `min_seq`, otherwise `ReplicaUnavailable` with the last
        reason.
        """
        deadline = self._now_s() + BUDGET_S
        refusal = ReplicaUnavailable("no replica is known")
        query = {**parameters, "consistency": consistency}
        if min_seq is not None:
            query["min_seq"] = str(min_seq)
        while (left_s := deadline - self._now_s()) > 0:
            for address in self._addresses(shard, consistency):
                try:
                    return self._client.query(address, shard, query, left_s)
                except ReplicaUnavailable as error:
                    refusal = _more_informative(refusal, error)
            self._directory.wait_for_update(min(UPDATE_TIMEOUT_S, left_s))
        cause = self._directory.error(shard)
        if cause is not None and not isinstance(refusal, ReplicaBehind):
            raise ReplicaUnavailable(f"{refusal}; {cause}") from refusal
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
