"""The API of the cluster: its state, handovers, and crashes of replicas."""

from __future__ import annotations

from typing import Any

import msgspec
import requests
from flask import Flask, Response

from postjournal.cluster.http import direct_session
from postjournal.cluster.status import Handover
from postjournal.cluster.view import ClusterView, ReplicaView
from services.coordinator.api import http
from services.coordinator.api.requests import CrashRequest, HandoverRequest
from services.coordinator.cluster_state import now_ms
from services.coordinator.coordinator import Coordinator
from services.coordinator.jobs import candidates
from services.coordinator.problems import RETRY_AFTER_S
from services.problems import Problem

CRASH_TIMEOUT_S = 2.0
MAX_FAILOVERS = 20


def add_cluster_routes(app: Flask, coordinator: Coordinator) -> None:
    """Add `/api/v1/cluster`, `/api/v1/handover` and `/api/v1/crash`."""

    @app.get("/api/v1/cluster")
    def show_cluster() -> Response:
        """The leader of each shard, all replicas, and the last 20 failovers, oldest first."""
        now = now_ms()
        return http.json_response(
            coordinator.cluster_state.read(lambda view, _: _cluster(view, now))
        )

    @app.post("/api/v1/handover")
    def hand_over() -> Response:
        """Request the leader of a shard to resign: 202 with shard, leader and successor.

        The body is a `HandoverRequest` or absent. 409 when the shard has no leader, or no in-sync
        standby (of the given name).
        """
        http.authorize(coordinator.token)
        body = http.decode_body(HandoverRequest)
        http.check_shard(coordinator, body.shard)
        http.check_cluster_is_known(coordinator)
        leader = coordinator.cluster_state.read(lambda view, _: _leader_to_resign(view, body))
        handover = Handover(shard=body.shard, successor=body.successor, time=now_ms())
        with http.unavailable_as_503():
            coordinator.control.append(handover)
        fields = {"shard": body.shard, "leader": leader, "successor": body.successor}
        return http.json_response(fields, 202)

    @app.post("/api/v1/crash")
    def crash() -> Response:
        """Kill a replica with SIGKILL: 202 with its name, once it is dead.

        The body is a `CrashRequest`. 403 unless POSTJOURNAL_ALLOW_CRASH=1.
        """
        http.authorize(coordinator.token)
        if not coordinator.allow_crash:
            raise Problem("not-allowed", "POSTJOURNAL_ALLOW_CRASH is not set; set it to 1")
        body = http.decode_body(CrashRequest, is_required=True)
        _crash(coordinator, body.replica)
        return http.json_response({"replica": body.replica, "crashed": True}, 202)


def _cluster(view: ClusterView, now: int) -> dict[str, Any]:
    return {
        "shards": {str(number): shard for number, shard in sorted(view.shards.items())},
        "replicas": [_replica(replica, now) for _, replica in sorted(view.replicas.items())],
        "failovers": view.failovers[-MAX_FAILOVERS:],
    }


def _replica(view: ReplicaView, now: int) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(view.status)
    return fields | {"silent": view.is_silent(now), "duplicate_name": view.is_duplicate(now)}


def _leader_to_resign(view: ClusterView, body: HandoverRequest) -> str:
    """The name of the current leader. Raises `Problem` when the handover is impossible."""
    shard = view.shards.get(body.shard)
    if shard is None or shard.leader is None:
        raise Problem("no-leader", f"shard {body.shard} has no leader", retry_after_s=RETRY_AFTER_S)
    standbys = candidates(view, body.shard, now_ms(), allow_leader=False)
    if body.successor is None and not standbys:
        raise Problem("no-standby", f"shard {body.shard} has no in-sync standby")
    if body.successor is not None and body.successor not in standbys:
        raise Problem(
            "no-standby",
            f"{body.successor!r} is not an in-sync standby of shard {body.shard}; "
            f"these are: {', '.join(standbys) or '-'}",
        )
    return shard.leader


def _crash(coordinator: Coordinator, name: str) -> None:
    """Request a replica to kill itself. Raises `Problem` when it does not."""
    address = coordinator.cluster_state.read(lambda view, _: _http_address(view, name))
    token = coordinator.token
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with direct_session() as session:
        try:
            answer = session.post(
                f"http://{address}/crash", headers=headers, timeout=CRASH_TIMEOUT_S
            )
        except requests.Timeout as error:
            detail = f"{name} did not answer within {CRASH_TIMEOUT_S:g} s and may be running"
            raise Problem("unavailable", detail, retry_after_s=RETRY_AFTER_S) from error
        except requests.RequestException:
            return  # a replica that dies closes the connection without an answer
    raise Problem("not-allowed", f"{name} refused with status {answer.status_code}")


def _http_address(view: ClusterView, name: str) -> str:
    """host:port of the replica's HTTP server, which is the same for all of its shards."""
    for (replica, _), replica_view in view.replicas.items():
        if replica == name:
            return replica_view.status.http
    raise Problem("not-found", f"there is no replica {name!r}")
