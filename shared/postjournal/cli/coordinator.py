"""Talking to the coordinator over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import requests

from postjournal.cli.errors import OperationFailed
from postjournal.cli.http import direct_session
from postjournal.cluster.status import Failover
from postjournal.config.settings import CoordinatorSettings

ANSWER_S = 20.0
"""Longer than a store that does not answer is waited for."""


class SnapshotRow(msgspec.Struct, kw_only=True):
    """One snapshot of one shard, as `GET /api/v1/snapshots` tells it."""

    id: str
    shard: int
    state: str
    progress: float | None
    replica: str
    offset: int | None
    seq: int | None
    size: int | None
    sha256: str | None
    duration_ms: int | None
    time: int
    error: str | None


class Shard(msgspec.Struct, frozen=True, kw_only=True):
    """Who leads, as `GET /api/v1/cluster` tells it; see `cluster_view.ShardView`."""

    leader: str | None
    epoch: int
    since: int
    state: str
    seq: int


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """One replica in one shard; see `status.ReplicaStatus`."""

    replica: str
    shard: int
    state: str
    epoch: int
    seq: int
    lag: int | None
    lag_s: float
    silent: bool
    http: str
    error: str | None


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """Shard number → who leads it; replicas; the last failovers, oldest first."""

    shards: dict[str, Shard]
    replicas: list[Replica]
    failovers: list[Failover]


class _Rows(msgspec.Struct):
    snapshots: list[SnapshotRow]


class _Asked(msgspec.Struct):
    id: str
    snapshots: list[SnapshotRow]


class _Problem(msgspec.Struct):
    title: str = ""
    detail: str = ""


class CoordinatorClient:
    """Raises `OperationFailed` with the coordinator's own words."""

    def __init__(self, url: str, environment: Mapping[str, str] | None = None) -> None:
        """`url`: http://host:port; the token comes from POSTJOURNAL_API_TOKEN(_FILE), if set."""
        self._url = url
        self._session = direct_session()
        token = CoordinatorSettings.from_environment(environment or None).token
        if token is not None:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def ask(self, shard: int | None, *, allow_leader: bool) -> tuple[str, list[SnapshotRow]]:
        """Ask for a snapshot of one shard or of all: its id and what is known of it."""
        body = {"shard": shard, "allow_leader": allow_leader}
        answer = self._call("POST", "/api/v1/snapshots", _Asked, body)
        return answer.id, answer.snapshots

    def snapshots(self) -> list[SnapshotRow]:
        """All, newest first."""
        found: list[SnapshotRow] = self._call("GET", "/api/v1/snapshots", _Rows).snapshots
        return found

    def snapshot(self, snapshot_id: str) -> list[SnapshotRow]:
        """One row for each shard that has it."""
        path = f"/api/v1/snapshots/{snapshot_id}"
        found: list[SnapshotRow] = self._call("GET", path, _Rows).snapshots
        return found

    def cluster(self) -> Cluster:
        """How the shards and replicas are doing."""
        found: Cluster = self._call("GET", "/api/v1/cluster", Cluster)
        return found

    def _call(self, method: str, path: str, kind: Any, body: object = None) -> Any:
        url = f"{self._url}{path}"
        try:
            answer = self._session.request(method, url, json=body, timeout=ANSWER_S)
        except requests.RequestException as error:
            raise OperationFailed(
                f"the coordinator at {self._url} does not answer: see `./postjournal status`"
            ) from error
        if answer.status_code >= 400:
            raise OperationFailed(_words(answer))
        return msgspec.json.decode(answer.content, type=kind)


def _words(answer: requests.Response) -> str:
    try:
        problem = msgspec.json.decode(answer.content, type=_Problem)
    except msgspec.DecodeError:
        return f"the coordinator answered {answer.status_code}"
    if answer.status_code == 401:
        return f"{problem.title}: set POSTJOURNAL_API_TOKEN to the coordinator's"
    return f"{problem.title}: {problem.detail}"
