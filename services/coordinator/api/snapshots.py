"""The API of snapshots: request, list, inspect."""

from __future__ import annotations

import secrets
from collections.abc import Collection

from flask import Flask, Response, request

from postjournal.cluster.states import SnapshotState
from postjournal.cluster.status import SnapshotOrder
from postjournal.core.snapshot.manifest import is_snapshot_id
from services.coordinator.api import http
from services.coordinator.api.requests import SnapshotRequest
from services.coordinator.cluster_state import now_ms
from services.coordinator.coordinator import Coordinator
from services.coordinator.jobs import first_order
from services.coordinator.problems import RETRY_AFTER_S
from services.coordinator.snapshots import Row, row_of_order
from services.problems import Problem

FURTHEST_BEHIND_FIRST = (
    SnapshotState.FAILED,
    SnapshotState.ORDERED,
    SnapshotState.WRITING,
    SnapshotState.VERIFYING,
    SnapshotState.DONE,
)
"""The state of a snapshot of several shards is the first of these that one of its rows has."""


def add_snapshot_routes(app: Flask, coordinator: Coordinator) -> None:
    """Add `/api/v1/snapshots`, its alias `/api/v1/snapshot` for POST, and one snapshot by id."""
    snapshots = coordinator.snapshots

    @app.post("/api/v1/snapshots")
    @app.post("/api/v1/snapshot")
    def request_snapshots() -> Response:
        """Order a snapshot of one shard or of all: 202 with its id and a row for each shard.

        The body is a `SnapshotRequest` or absent. With the header `Idempotency-Key`, shards that
        have a snapshot of that id are not ordered again. Nothing is ordered when one of the shards
        has no replica to take the snapshot (409).
        """
        http.authorize(coordinator.token)
        body = http.decode_body(SnapshotRequest)
        shards = range(coordinator.shards) if body.shard is None else [body.shard]
        for shard in shards:
            http.check_shard(coordinator, shard)
        snapshot_id = _requested_id()
        with http.unavailable_as_503():
            known = {row.shard: row for row in snapshots.of_id(snapshot_id)}
            ordered = _order(coordinator, snapshot_id, set(shards) - known.keys(), body)
        rows = sorted([*known.values(), *ordered], key=lambda row: row.shard)
        headers = {"Location": f"/api/v1/snapshots/{snapshot_id}"}
        return http.json_response({"id": snapshot_id, "snapshots": rows}, 202, headers)

    @app.get("/api/v1/snapshots")
    def list_snapshots() -> Response:
        """All snapshots, newest first: stored ones, those in progress, and failed ones."""
        with http.unavailable_as_503():
            return http.json_response({"snapshots": snapshots.rows()})

    @app.get("/api/v1/snapshots/<snapshot_id>")
    def show_snapshot(snapshot_id: str) -> Response:
        """One snapshot: its state and a row for each shard; 404 if there is none of that id."""
        with http.unavailable_as_503():
            rows = snapshots.of_id(snapshot_id)
        if not rows:
            raise Problem("unknown-snapshot", f"there is no snapshot {snapshot_id!r}")
        return http.json_response(
            {"id": snapshot_id, "state": _overall_state(rows), "snapshots": rows}
        )


def _requested_id() -> str:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return secrets.token_hex(8)
    if not is_snapshot_id(key):
        raise Problem(
            "malformed-request",
            f"invalid Idempotency-Key {key!r}: expected 1-64 characters of A-Z a-z 0-9 _ -",
        )
    return key


def _order(
    coordinator: Coordinator, snapshot_id: str, shards: Collection[int], body: SnapshotRequest
) -> list[Row]:
    orders = _orders(coordinator, snapshot_id, shards, body)
    for order in orders:
        coordinator.control.append(order)
        coordinator.cluster_state.on_order(order, order.time)
    return [row_of_order(order) for order in orders]


def _orders(
    coordinator: Coordinator, snapshot_id: str, shards: Collection[int], body: SnapshotRequest
) -> list[SnapshotOrder]:
    """One order for each shard. Raises `Problem` when one shard has no replica to take it."""
    http.check_cluster_is_known(coordinator)
    now = now_ms()
    first_orders = coordinator.cluster_state.read(
        lambda view, _: {
            shard: first_order(snapshot_id, shard, view, now, allow_leader=body.allow_leader)
            for shard in sorted(shards)
        }
    )
    orders = []
    for shard, order in first_orders.items():
        if order is None:
            raise _no_standby(shard, allow_leader=body.allow_leader)
        orders.append(order)
    return orders


def _no_standby(shard: int, *, allow_leader: bool) -> Problem:
    detail = f"shard {shard} has no in-sync standby"
    detail += " and no leader" if allow_leader else "; set allow_leader to use the leader"
    return Problem("no-standby", detail, retry_after_s=RETRY_AFTER_S)


def _overall_state(rows: list[Row]) -> str:
    return min((row.state for row in rows), key=_rank)


def _rank(state: str) -> int:
    """0: furthest behind. A state that only a newer release knows counts as `writing`."""
    known = state if state in FURTHEST_BEHIND_FIRST else SnapshotState.WRITING
    return [*FURTHEST_BEHIND_FIRST].index(SnapshotState(known))
