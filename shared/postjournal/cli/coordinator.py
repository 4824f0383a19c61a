"""The client of the coordinator's HTTP interface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import requests

from postjournal.cli.errors import OperationFailed
from postjournal.cluster.http import direct_session
from postjournal.cluster.status import Failover
from postjournal.config.settings import CoordinatorSettings

TIMEOUT_S = 20.0
"""Longer than the coordinator waits for a snapshot store that does not answer."""


class SnapshotRow(msgspec.Struct, kw_only=True):
    """One snapshot of one shard, as in `GET /api/v1/snapshots`."""

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
    """A shard and its leader, as in `GET /api/v1/cluster`; see `cluster.view.ShardView`."""

    leader: str | None
    epoch: int
    since: int
    state: str
    seq: int


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """One replica of one shard; see `cluster.status.ReplicaStatus`."""

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
    """The view of `GET /api/v1/cluster`: shards by number, replicas, failovers (oldest first)."""

    shards: dict[str, Shard]
    replicas: list[Replica]
    failovers: list[Failover]


class _SnapshotList(msgspec.Struct):
    snapshots: list[SnapshotRow]


class _SnapshotRequested(msgspec.Struct):
    id: str
    snapshots: list[SnapshotRow]


class _Problem(msgspec.Struct):
    title: str = ""
    detail: str = ""


class CoordinatorClient:
    """Calls the coordinator at `url` (http://host:port).

    The token is POSTJOURNAL_API_TOKEN(_FILE) of `environment`, by default this process's. Every
    method raises `OperationFailed`, with the coordinator's own message when there is one.
    """

    def __init__(self, url: str, environment: Mapping[str, str] | None = None) -> None:
        self._url = url
        self._session = direct_session()
        token = CoordinatorSettings.from_environment(environment or None).token
        if token is not None:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def request_snapshot(
        self, shard: int | None, *, allow_leader: bool
    ) -> tuple[str, list[SnapshotRow]]:
        """Request a snapshot of one shard, or of all (None); return its id and its rows so far.

        `allow_leader`: the leader takes it where a shard has no standby.
        """
        body = {"shard": shard, "allow_leader": allow_leader}
        requested = self._call("POST", "/api/v1/snapshots", _SnapshotRequested, body)
        return requested.id, requested.snapshots

    def snapshots(self) -> list[SnapshotRow]:
        """Return all snapshots, newest first."""
        found: list[SnapshotRow] = self._call("GET", "/api/v1/snapshots", _SnapshotList).snapshots
        return found

    def snapshot(self, snapshot_id: str) -> list[SnapshotRow]:
        """Return one row for each shard that has the snapshot."""
        path = f"/api/v1/snapshots/{snapshot_id}"
        found: list[SnapshotRow] = self._call("GET", path, _SnapshotList).snapshots
        return found

    def cluster(self) -> Cluster:
        found: Cluster = self._call("GET", "/api/v1/cluster", Cluster)
        return found

    def _call(self, method: str, path: str, kind: Any, body: object = None) -> Any:
        url = f"{self._url}{path}"
        try:
            response = self._session.request(method, url, json=body, timeout=TIMEOUT_S)
        except requests.RequestException as error:
            raise OperationFailed(
                f"the coordinator at {self._url} does not answer: see `./postjournal status`"
            ) from error
        if response.status_code >= 400:
            raise OperationFailed(_error_message(response))
        return msgspec.json.decode(response.content, type=kind)


def _error_message(response: requests.Response) -> str:
    try:
        problem = msgspec.json.decode(response.content, type=_Problem)
    except msgspec.DecodeError:
        return f"the coordinator answered with status {response.status_code}"
    if response.status_code == 401:
        return f"{problem.title}: set POSTJOURNAL_API_TOKEN to the coordinator's token"
    return f"{problem.title}: {problem.detail}"
