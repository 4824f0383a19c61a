"""The coordinator's HTTP interface. `make_app` wires the handlers to what they need."""

from __future__ import annotations

import hmac
import secrets
from typing import Any

import msgspec
from flask import Flask, Response, request

from postjournal.cluster.status import Handover, SnapshotOrder
from postjournal.cluster.view import ClusterView, ReplicaView
from postjournal.core.errors import JournalUnavailable, StoreUnavailable, StoreUnusable
from postjournal.core.records import UNREADABLE
from postjournal.core.snapshot.manifest import is_snapshot_id
from services import problems
from services.coordinator.catalogue import Row
from services.coordinator.cluster_state import Coordinator
from services.coordinator.following import now_ms
from services.coordinator.jobs import candidates, first_order
from services.coordinator.openapi import document
from services.coordinator.page.routes import LivePage, add_page
from services.coordinator.requests import TITLES, HandoverRequest, SnapshotRequest
from services.parameters import whole_body
from services.problems import Problem
from services.web import add_static
from services.web.documents import add_interface_page

JSON = "application/json"
MAX_BODY_BYTES = 10_000
RETRY_S = 2
LINKS = (("Interface", "/docs"), ("OpenAPI", "/api/v1/openapi.json"))


def make_app(coordinator: Coordinator, live: LivePage) -> Flask:
    """The WSGI application."""
    app = Flask("postjournal-coordinator", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    problems.register(app, TITLES)
    _add_snapshots(app, coordinator)
    _add_cluster(app, coordinator)
    _add_operations(app, coordinator)
    add_page(app, live, lambda: _authorize(coordinator.token))
    return app


def _add_snapshots(app: Flask, coordinator: Coordinator) -> None:
    snapshots = coordinator.snapshots

    @app.post("/api/v1/snapshots")
    @app.post("/api/v1/snapshot")
    def ask() -> Response:
        _authorize(coordinator.token)
        asked = _body(SnapshotRequest)
        shards = range(coordinator.shards) if asked.shard is None else [asked.shard]
        for shard in shards:
            _check_shard(coordinator, shard)
        snapshot_id = _snapshot_id()
        with _unavailable_is_503():
            rows = {row.shard: row for row in snapshots.of_id(snapshot_id)}
            orders = _orders(coordinator, snapshot_id, set(shards) - rows.keys(), asked)
            for order in orders:
                coordinator.control.append(order)
                coordinator.cluster_state.on_own_order(order, order.time)
        told = sorted([*rows.values(), *map(_ordered, orders)], key=lambda row: row.shard)
        headers = {"Location": f"/api/v1/snapshots/{snapshot_id}"}
        return _json({"id": snapshot_id, "snapshots": told}, 202, headers)

    @app.get("/api/v1/snapshots")
    def listed() -> Response:
        with _unavailable_is_503():
            return _json({"snapshots": snapshots.rows()})

    @app.get("/api/v1/snapshots/<snapshot_id>")
    def one(snapshot_id: str) -> Response:
        with _unavailable_is_503():
            rows = sorted(snapshots.of_id(snapshot_id), key=lambda row: row.shard)
        if not rows:
            raise Problem("unknown-snapshot", f"there is no snapshot {snapshot_id!r}")
        return _json({"id": snapshot_id, "state": _overall(rows), "snapshots": rows})


def _orders(
    coordinator: Coordinator, snapshot_id: str, shards: set[int], asked: SnapshotRequest
) -> list[SnapshotOrder]:
    """One for each shard; none at all when one has nobody to ask."""
    _check_known(coordinator)
    now = now_ms()
    orders = []
    for shard in sorted(shards):
        order = coordinator.cluster_state.look(
            lambda view, _, shard=shard: first_order(  # type: ignore[misc]
                snapshot_id, shard, view, now, allow_leader=asked.allow_leader
            )
        )
        if order is None:
            raise Problem(
                "no-standby",
                f"shard {shard} has no in-sync standby"
                + (" and no leader" if asked.allow_leader else "; allow_leader asks the leader"),
                retry_after_s=RETRY_S,
            )
        orders.append(order)
    return orders


def _add_cluster(app: Flask, coordinator: Coordinator) -> None:
    cluster_state = coordinator.cluster_state

    @app.get("/api/v1/cluster")
    def cluster() -> Response:
        now = now_ms()
        return _json(cluster_state.look(lambda view, _: _cluster(view, now)))

    @app.post("/api/v1/handover")
    def hand_over() -> Response:
        _authorize(coordinator.token)
        asked = _body(HandoverRequest)
        _check_shard(coordinator, asked.shard)
        _check_known(coordinator)
        previous = cluster_state.look(lambda view, _: _check_handover(view, asked))
        with _unavailable_is_503():
            coordinator.control.append(
                Handover(shard=asked.shard, successor=asked.successor, time=now_ms())
            )
        told = {"shard": asked.shard, "leader": previous, "successor": asked.successor}
        return _json(told, 202)


def _check_handover(view: ClusterView, asked: HandoverRequest) -> str:
    """The present leader. Raises `Problem`."""
    shard = view.shards.get(asked.shard)
    if shard is None or shard.leader is None:
        raise Problem("no-leader", f"shard {asked.shard} has no leader", retry_after_s=RETRY_S)
    standbys = candidates(view, asked.shard, now_ms(), allow_leader=False)
    if asked.successor is None and not standbys:
        raise Problem("no-standby", f"shard {asked.shard} has no standby that could take over")
    if asked.successor is not None and asked.successor not in standbys:
        known = ", ".join(standbys) or "none"
        raise Problem("no-standby", f"{asked.successor!r} is no standby; standbys: {known}")
    return shard.leader


def _add_operations(app: Flask, coordinator: Coordinator) -> None:
    described = document()

    @app.get("/livez")
    def livez() -> Response:
        return _json({"status": "ok"})

    @app.get("/readyz")
    def readyz() -> Response:
        if coordinator.unavailable_reason:
            raise Problem("unavailable", coordinator.unavailable_reason, retry_after_s=RETRY_S)
        return _json({"status": "ready"})

    @app.get("/api/v1/openapi.json")
    def openapi() -> Response:
        return _json(described)

    add_interface_page(app, described, LINKS)
    add_static(app)


# --- checks --------------------------------------------------------------------------------------


def _authorize(token: str | None) -> None:
    """Raises `Problem` unless the bearer token is right; compared in constant time.

    Nor may a page of another site, open in somebody's browser, change anything.
    """
    if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        raise Problem("cross-site", "a page of another site has asked")
    if token is None:
        return
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    is_right = hmac.compare_digest(given.strip().encode(), token.encode())
    if kind.lower() != "bearer" or not is_right:
        raise Problem("unauthorized", "send Authorization: Bearer TOKEN")


def _check_known(coordinator: Coordinator) -> None:
    if coordinator.follower.unavailable_reason:
        raise Problem("unavailable", coordinator.follower.unavailable_reason, retry_after_s=RETRY_S)


def _check_shard(coordinator: Coordinator, shard: int) -> None:
    if not 0 <= shard < coordinator.shards:
        raise Problem("not-found", f"there are {coordinator.shards} shards, from 0")


def _body(kind: type[Any]) -> Any:
    """The body as `kind`; no body is an empty one. Raises `Problem`."""
    data = whole_body()
    if data and request.mimetype != JSON:
        raise Problem("unsupported-media-type", f"use {JSON}")
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except UNREADABLE as error:
        raise Problem("malformed-request", str(error)) from error


def _snapshot_id() -> str:
    """From the header that makes a repeat harmless, or a fresh one."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return secrets.token_hex(8)
    if not is_snapshot_id(key):
        raise Problem("malformed-request", "Idempotency-Key: 1-64 of A-Z a-z 0-9 _ -")
    return key


class _unavailable_is_503:  # noqa: N801 - read as a statement
    def __enter__(self) -> None:
        """Nothing."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Faults of the world become an answer."""
        if isinstance(error, JournalUnavailable | StoreUnavailable | StoreUnusable):
            raise Problem("unavailable", str(error), retry_after_s=RETRY_S) from error


# --- answers -------------------------------------------------------------------------------------


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(body), status, headers, content_type=JSON)


def _ordered(order: SnapshotOrder) -> Row:
    return Row(
        id=order.id,
        shard=order.shard,
        state="ordered",
        progress=0.0,
        attempt=order.attempt,
        replica=order.replica,
        time=order.time,
    )


def _overall(rows: list[Row]) -> str:
    """The state of the shard that is furthest behind."""
    states = {row.state for row in rows}
    order = ("failed", "ordered", "writing", "verifying", "done")
    return next(state for state in order if state in states)


def _cluster(view: ClusterView, now: int) -> dict[str, Any]:
    return {
        "shards": {str(shard): each for shard, each in sorted(view.shards.items())},
        "replicas": [_replica(each, now) for _, each in sorted(view.replicas.items())],
        "failovers": view.failovers[-20:],
    }


def _replica(view: ReplicaView, now: int) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(view.status)
    return fields | {"silent": view.is_silent(now), "duplicate_name": view.is_duplicate(now)}
