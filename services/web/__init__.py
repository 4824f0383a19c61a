"""HTML pages: templates, style and scripts, all served by the service itself."""

from __future__ import annotations

import mimetypes
import re
from importlib import resources
from typing import Any

import jinja2
from flask import Flask, Response, abort, request
from markupsafe import Markup

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""Content-Security-Policy: nothing inline, nothing from other hosts, no embedding in frames."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}
NAME = re.compile(r"[a-z-]+\.(css|js|svg)")

_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("services.web"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **values: Any) -> str:
    """Render a template to HTML; `values` are escaped unless they are `Markup`."""
    return Markup(_templates.get_template(template).render(**values))


def page(template: str, **values: Any) -> Response:
    """An HTML response with the security headers; arguments as for `render`."""
    text = render(template, root=request.script_root, **values)
    return Response(text, content_type="text/html; charset=utf-8", headers=HEADERS)


def add_static(app: Flask) -> None:
    """Serve the files of `static/` at `/static/NAME`, with an ETag; 404 for any other name."""

    @app.get("/static/<name>")
    def static_file(name: str) -> Response:
        file = resources.files("services.web") / "static" / name
        if not NAME.fullmatch(name) or not file.is_file():
            abort(404)
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        headers = {**HEADERS, "Cache-Control": "no-cache"}
        response = Response(
            file.read_bytes(), content_type=f"{kind}; charset=utf-8", headers=headers
        )
        response.add_etag()
        response.make_conditional(request)
        return response
