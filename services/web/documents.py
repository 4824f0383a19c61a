"""Pages that show a service's OpenAPI and AsyncAPI documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Flask, Response

from services.web import page

Links = Sequence[tuple[str, str]]
"""(name, path) of the related pages and documents that the header links to."""


def add_interface_page(app: Flask, document: dict[str, Any], links: Links) -> None:
    """Show the OpenAPI document at `/docs`."""

    def resolve(reference: dict[str, Any]) -> dict[str, Any]:
        node: Any = reference
        while "$ref" in node:
            parts = node["$ref"].removeprefix("#/").split("/")
            node = document
            for part in parts:
                node = node[part]
        resolved: dict[str, Any] = node
        return resolved

    @app.get("/docs")
    def docs() -> Response:
        return page("docs.html", document=document, links=links, resolve=resolve)


def add_topics_page(app: Flask, document: dict[str, Any], links: Links) -> None:
    """Show the AsyncAPI document at `/docs/topics`."""

    @app.get("/docs/topics")
    def topics() -> Response:
        return page("topics.html", document=document, links=links)
