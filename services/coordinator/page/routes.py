"""The page and what it calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import requests
from flask import Flask, Response, request

from postjournal.cluster.http import direct_session
from postjournal.core.records import UNREADABLE
from services.coordinator.cluster_state import Coordinator
from services.coordinator.following import now_ms
from services.coordinator.page import fragments as parts
from services.coordinator.page.model import (
    FAILOVERS_SHOWN,
    SNAPSHOTS_SHOWN,
    PageModel,
    replicas_of,
    shards_of,
)
from services.coordinator.page.queries import NOW, RETRY_S, StateQueries
from services.coordinator.page.stream import SnapshotWatch, Streams
from services.coordinator.requests import CrashRequest
from services.parameters import shard_number, whole_body
from services.problems import Problem
from services.web import HEADERS, page

RESERVED = ("shard", "at")
CRASH_S = 2.0


class LivePage:
    """One coordinator's page. `close` it."""

    def __init__(self, coordinator: Coordinator) -> None:
        """Starts the thread that lists the store."""
        self.coordinator = coordinator
        self.watch = SnapshotWatch(coordinator.snapshots)
        self.streams = Streams(coordinator.cluster_state, self.watch)
        self.queries = StateQueries(coordinator.cluster_state)

    def model(self) -> PageModel:
        """Now."""
        coordinator, now = self.coordinator, now_ms()
        cluster_state = coordinator.cluster_state
        curves = {shard: cluster_state.curves(shard) for shard in range(coordinator.shards)}
        return cluster_state.look(
            lambda view, _: PageModel(
                shards=shards_of(view, curves),
                replicas=replicas_of(view, now),
                failovers=view.failovers[: -FAILOVERS_SHOWN - 1 : -1],
                snapshots=self.watch.rows[:SNAPSHOTS_SHOWN],
                unavailable_reason=coordinator.unavailable_reason,
                store_unavailable_reason=self.watch.unavailable_reason,
                allow_crash=coordinator.allow_crash,
                needs_token=coordinator.token is not None,
            )
        )

    def close(self) -> None:
        """Let all go."""
        self.streams.close()
        self.watch.close()


def add_page(app: Flask, live: LivePage, authorize: Callable[[], None]) -> None:
    """`authorize` raises `Problem` unless the request has the token."""

    @app.get("/")
    def index() -> Response:
        live.watch.wake()
        model = live.model()
        return page("live/page.html", model=model, parts=parts)

    @app.get("/api/v1/events")
    def events() -> Response:
        # Flask answers HEAD by the same function.
        stream = () if request.method == "HEAD" else live.streams.begin(live.model)
        headers = {**HEADERS, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return Response(stream, content_type="text/event-stream", headers=headers)

    @app.get("/api/v1/query")
    def query() -> Response:
        asked = request.args.to_dict()
        shard = shard_number(asked.pop("shard", "0"), live.coordinator.shards)
        at = asked.pop("at", NOW)
        if not asked:
            raise Problem("malformed-request", "say what is asked, as account=alice")
        if at == NOW:
            return _json(live.queries.now(shard, asked))
        authorize()
        return _json(live.queries.past(shard, at, asked))

    @app.post("/api/v1/crash")
    def crash() -> Response:
        authorize()
        if not live.coordinator.allow_crash:
            raise Problem("not-allowed", "POSTJOURNAL_ALLOW_CRASH is not set")
        return _json(_crash(live.coordinator, _crash_request()), 202)


def _crash_request() -> CrashRequest:
    if request.mimetype != "application/json":
        raise Problem("unsupported-media-type", "use application/json")
    try:
        return msgspec.json.decode(whole_body(), type=CrashRequest)
    except UNREADABLE as error:
        raise Problem("malformed-request", str(error)) from error


def _crash(coordinator: Coordinator, asked: CrashRequest) -> dict[str, Any]:
    """A replica that dies does not answer any more."""
    found = coordinator.cluster_state.look(
        lambda view, _: [
            each.status.http for (name, _), each in view.replicas.items() if name == asked.replica
        ]
    )
    if not found:
        raise Problem("not-found", f"there is no replica {asked.replica!r}")
    token = coordinator.token
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with direct_session() as session:
        try:
            answer = session.post(f"http://{found[0]}/crash", headers=headers, timeout=CRASH_S)
        except requests.Timeout as error:
            why = f"{asked.replica} does not answer, and may live"
            raise Problem("unavailable", why, retry_after_s=RETRY_S) from error
        except requests.RequestException:
            return {"replica": asked.replica, "crashed": True}
    raise Problem("not-allowed", f"{asked.replica} answered {answer.status_code}")


def _json(body: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, content_type="application/json")
