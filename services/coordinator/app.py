"""The coordinator's HTTP interface."""

from __future__ import annotations

from flask import Flask, Response

from services import problems
from services.coordinator.api.cluster import add_cluster_routes
from services.coordinator.api.http import json_response
from services.coordinator.api.openapi import document
from services.coordinator.api.query import add_query_route
from services.coordinator.api.snapshots import add_snapshot_routes
from services.coordinator.coordinator import Coordinator
from services.coordinator.page.routes import LivePage, add_page
from services.coordinator.problems import RETRY_AFTER_S, TITLES
from services.problems import Problem
from services.web import add_static
from services.web.documents import add_interface_page

MAX_BODY_BYTES = 10_000
LINKS = (("Interface", "/docs"), ("OpenAPI", "/api/v1/openapi.json"))


def make_app(coordinator: Coordinator, live: LivePage) -> Flask:
    """Create the WSGI application; the caller closes `live`."""
    app = Flask("postjournal-coordinator", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    problems.register(app, TITLES)
    add_snapshot_routes(app, coordinator)
    add_cluster_routes(app, coordinator)
    add_query_route(app, coordinator)
    _add_operations(app, coordinator)
    add_page(app, live)
    return app


def _add_operations(app: Flask, coordinator: Coordinator) -> None:
    openapi_document = document()

    @app.get("/livez")
    def livez() -> Response:
        """200 while the process can answer requests."""
        return json_response({"status": "ok"})

    @app.get("/readyz")
    def readyz() -> Response:
        """200 while Kafka and the snapshot store are available, else 503 with the reason."""
        if coordinator.unavailable_reason:
            raise Problem(
                "unavailable", coordinator.unavailable_reason, retry_after_s=RETRY_AFTER_S
            )
        return json_response({"status": "ready"})

    @app.get("/api/v1/openapi.json")
    def openapi() -> Response:
        """The OpenAPI document of this service."""
        return json_response(openapi_document)

    add_interface_page(app, openapi_document, LINKS)
    add_static(app)
