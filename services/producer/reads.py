"""Reads: asking replicas until one answers, within a time budget."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, Literal

import msgspec
import requests

from services.producer.ports import ReplicaAway, ReplicaClient, ReplicaDirectory

Consistency = Literal["leader", "any"]

BUDGET_S = 3.0
"""Several times as long as a failover takes, even when it is noticed by silence only."""

CONNECT_S, ANSWER_S = 0.25, 1.0
NEWS_S = 0.02


class HttpReplicaClient:
    """See `ReplicaClient`. Safe to use from many threads."""

    def __init__(self) -> None:
        """Keeps connections open."""
        self._session = requests.Session()
        self._session.trust_env = False  # replicas are never behind a proxy
        adapter = requests.adapters.HTTPAdapter(pool_connections=32, pool_maxsize=64)
        self._session.mount("http://", adapter)

    def query(
        self, address: str, shard: int, parameters: dict[str, str], timeout_s: float
    ) -> dict[str, Any]:
        """See `ReplicaClient`."""
        try:
            answer = self._session.get(
                f"http://{address}/query/{shard}",
                params=parameters,
                timeout=(min(CONNECT_S, timeout_s), min(ANSWER_S, timeout_s)),
            )
            body = msgspec.json.decode(answer.content)
        except (requests.RequestException, msgspec.DecodeError) as error:
            raise ReplicaAway(f"{address}: {error}") from error
        if not isinstance(body, dict) or "result" not in body:
            told = body.get("error") if isinstance(body, dict) else None
            raise ReplicaAway(f"{address}: {told or answer.status_code}")
        return body


class Reader:
    """Finds a replica that can answer."""

    def __init__(
        self,
        directory: ReplicaDirectory,
        client: ReplicaClient,
        now_s: Callable[[], float] = monotonic,
    ) -> None:
        """`now_s`: a clock for the time budget, seconds."""
        self._directory, self._client, self._now_s = directory, client, now_s

    def read(
        self, shard: int, consistency: Consistency, parameters: dict[str, str]
    ) -> dict[str, Any]:
        """A replica's answer. Raises `ReplicaAway`, with the last reason, after three seconds.

        The leader is looked up anew before each attempt: it may just be changing.
        """
        deadline, reason = self._now_s() + BUDGET_S, "no replica is known"
        asked = {**parameters, "consistency": consistency}
        while (left_s := deadline - self._now_s()) > 0:
            for address in self._addresses(shard, consistency):
                try:
                    return self._client.query(address, shard, asked, left_s)
                except ReplicaAway as away:
                    reason = str(away)
            self._directory.wait_for_news(min(NEWS_S, left_s))
        raise ReplicaAway(reason)

    def _addresses(self, shard: int, consistency: Consistency) -> list[str]:
        if consistency == "leader":
            return self._directory.leader_addresses(shard)
        return self._directory.reader_addresses(shard)
