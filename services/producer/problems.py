"""Errors as RFC 9457 problem details. Every status code that means an error is chosen here."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

TITLES = {
    "malformed-request": (400, "The request cannot be understood"),
    "not-found": (404, "There is no such resource"),
    "unknown-account": (404, "There is no such account"),
    "method-not-allowed": (405, "The resource does not have this method"),
    "too-large": (413, "The body is too large"),
    "unsupported-media-type": (415, "The body has a type that is not understood"),
    "invalid-command": (422, "The body is no valid command"),
    "invalid-batch": (422, "The batch holds invalid commands; none was accepted"),
    "too-busy": (429, "Too many requests are under way"),
    "internal-error": (500, "The gateway failed"),
    "unavailable": (503, "The log of commands cannot be reached"),
    "outcome-unknown": (503, "It is not known whether the command was accepted"),
    "no-leader": (503, "No replica can answer now"),
}
"""Problem type → status and title."""

TYPE_OF_STATUS = {
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
    415: "unsupported-media-type",
    500: "internal-error",
}


class Problem(Exception):
    """Raised by handlers; becomes the response."""

    def __init__(
        self, kind: str, detail: str, *, retry_after_s: int | None = None, **extras: Any
    ) -> None:
        """`kind` is a key of `TITLES`; `extras` become members of the body."""
        super().__init__(detail)
        self.kind, self.detail, self.extras = kind, detail, extras
        self.headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}


def register(app: Flask) -> None:
    """Make every error of `app`, Flask's own included, a problem."""
    app.register_error_handler(Problem, _of_problem)
    app.register_error_handler(HTTPException, _of_http_exception)
    app.register_error_handler(Exception, _of_bug)


def _of_problem(problem: Problem) -> Response:
    return _response(problem.kind, problem.detail, problem.extras, problem.headers)


def _of_http_exception(error: HTTPException) -> Response:
    kind = TYPE_OF_STATUS.get(error.code or 500)
    if kind is None:
        kind = "malformed-request" if (error.code or 500) < 500 else "internal-error"
    allowed = getattr(error, "valid_methods", None)
    headers = {"Allow": ", ".join(sorted(allowed))} if allowed else {}
    return _response(kind, error.description or error.name, {}, headers)


def _of_bug(error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return _response("internal-error", "see the gateway's log", {}, {})


def _response(
    kind: str, detail: str, extras: Mapping[str, Any], headers: Mapping[str, str]
) -> Response:
    status, title = TITLES[kind]
    body = {
        "type": f"urn:postjournal:problem:{kind}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": request.path,
        **extras,
    }
    return Response(msgspec.json.encode(body), status, dict(headers), content_type=MEDIA_TYPE)
