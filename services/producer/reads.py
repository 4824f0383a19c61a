"""Reads: asking replicas until one answers, within a time budget."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, Literal

import msgspec
import requests

from postjournal.core.records import UNREADABLE
from services.producer.ports import ReplicaAway, ReplicaBehind, ReplicaClient, ReplicaDirectory

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
        except (requests.RequestException, *UNREADABLE) as error:
            raise ReplicaAway(f"{address}: {error}") from error
        if not isinstance(body, dict) or "result" not in body:
            raise _refusal(address, body, answer.status_code)
        return body


def _refusal(address: str, body: Any, status: int) -> ReplicaAway:
    told = body.get("error") if isinstance(body, dict) else None
    if told == "behind" and isinstance(body.get("seq"), int):
        return ReplicaBehind(f"{address} has reached sequence {body['seq']}", body["seq"])
    return ReplicaAway(f"{address}: {told or status}")


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
        self,
        shard: int,
        consistency: Consistency,
        parameters: dict[str, str],
        min_seq: int | None = None,
    ) -> dict[str, Any]:
        """A replica's answer, which accounts for the command `min_seq` of the shard.

        Raises `ReplicaAway` after three seconds, for the last reason; `ReplicaBehind` when some
        replica was there, but not so far. The leader is looked up anew before each attempt: it
        may just be changing.
        """
        deadline = self._now_s() + BUDGET_S
        refusal = ReplicaAway("no replica is known")
        asked = {**parameters, "consistency": consistency}
        if min_seq is not None:
            asked["min_seq"] = str(min_seq)
        while (left_s := deadline - self._now_s()) > 0:
            for address in self._addresses(shard, consistency):
                try:
                    return self._client.query(address, shard, asked, left_s)
                except ReplicaAway as away:
                    refusal = _more_telling(refusal, away)
            self._directory.wait_for_update(min(NEWS_S, left_s))
        raise refusal

    def _addresses(self, shard: int, consistency: Consistency) -> list[str]:
        if consistency == "leader":
            return self._directory.leader_addresses(shard)
        return self._directory.reader_addresses(shard)


def _more_telling(before: ReplicaAway, latest: ReplicaAway) -> ReplicaAway:
    """The one that is furthest ahead of those that are behind, or else the latest."""
    if not isinstance(before, ReplicaBehind):
        return latest
    is_ahead = isinstance(latest, ReplicaBehind) and latest.seq >= before.seq
    return latest if is_ahead else before
