"""Pages that show a service's documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Flask, Response

from services.web import page

Links = Sequence[tuple[str, str]]
"""Name and path of pages and documents that belong together."""


def add_interface_page(app: Flask, document: dict[str, Any], links: Links) -> None:
    """The OpenAPI document at `/docs`."""

    def resolve(told: dict[str, Any]) -> dict[str, Any]:
        node: Any = told
        while "$ref" in node:
            parts = node["$ref"].removeprefix("#/").split("/")
            node = document
            for part in parts:
                node = node[part]
        found: dict[str, Any] = node
        return found

    @app.get("/docs")
    def docs() -> Response:
        return page("docs.html", document=document, links=links, resolve=resolve)


def add_topics_page(app: Flask, document: dict[str, Any], links: Links) -> None:
    """The AsyncAPI document at `/docs/topics`."""

    @app.get("/docs/topics")
    def topics() -> Response:
        return page("topics.html", document=document, links=links)
