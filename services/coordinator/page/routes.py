"""The live page and its event stream."""

from __future__ import annotations

from flask import Flask, Response, request

from services.coordinator.cluster_state import now_ms
from services.coordinator.coordinator import Coordinator
from services.coordinator.page import fragments
from services.coordinator.page.model import (
    FAILOVERS_SHOWN,
    SNAPSHOTS_SHOWN,
    PageModel,
    replicas_of,
    shards_of,
)
from services.coordinator.page.snapshot_poller import SnapshotPoller
from services.coordinator.page.stream import Streams
from services.web import HEADERS, page


class LivePage:
    """The live page of one coordinator. `close` it."""

    def __init__(self, coordinator: Coordinator) -> None:
        """Starts the thread that lists the snapshot store."""
        self.coordinator = coordinator
        self.poller = SnapshotPoller(coordinator.snapshots)
        self.streams = Streams(coordinator.cluster_state, self.poller)

    def model(self) -> PageModel:
        """The current contents of the page."""
        coordinator, now = self.coordinator, now_ms()
        cluster_state = coordinator.cluster_state
        curves = {shard: cluster_state.curves(shard) for shard in range(coordinator.shards)}
        return cluster_state.read(
            lambda view, _: PageModel(
                shards=shards_of(view, curves),
                replicas=replicas_of(view, now),
                failovers=view.failovers[: -FAILOVERS_SHOWN - 1 : -1],
                snapshots=self.poller.rows[:SNAPSHOTS_SHOWN],
                unavailable_reason=coordinator.unavailable_reason,
                store_unavailable_reason=self.poller.unavailable_reason,
                allow_crash=coordinator.allow_crash,
                needs_token=coordinator.token is not None,
            )
        )

    def close(self) -> None:
        """End all streams and the thread."""
        self.streams.close()
        self.poller.close()


def add_page(app: Flask, live: LivePage) -> None:
    """Add the page at `/` and its updates at `/api/v1/events`."""

    @app.get("/")
    def index() -> Response:
        """The page as HTML, with the current contents, so that it is useful without scripts."""
        live.poller.activate()
        return page("live/page.html", model=live.model(), fragments=fragments)

    @app.get("/api/v1/events")
    def events() -> Response:
        """The updates of one page as server-sent events, each a `Message` as JSON.

        503 when `MAX_STREAMS` are open.
        """
        # Flask answers HEAD by the same function.
        stream = () if request.method == "HEAD" else live.streams.open(live.model)
        headers = {**HEADERS, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return Response(stream, content_type="text/event-stream", headers=headers)
