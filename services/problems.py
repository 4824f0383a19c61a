"""Error responses in the format of RFC 9457, for all services."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

Titles = Mapping[str, tuple[int, str]]
"""Problem type → status and title."""

COMMON: Titles = {
    "malformed-request": (400, "The request is malformed"),
    "not-found": (404, "The resource does not exist"),
    "method-not-allowed": (405, "The resource does not support this method"),
    "too-large": (413, "The body is too large"),
    "unsupported-media-type": (415, "The media type of the body is not supported"),
    "internal-error": (500, "The service failed"),
}
"""The problem types that every service has."""

TYPE_OF_STATUS = {
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
    415: "unsupported-media-type",
    500: "internal-error",
}


class Problem(Exception):
    """An error response; raise it in a handler.

    `kind`: one of the service's problem types; `detail`: what is wrong with this request;
    `retry_after_s`: the Retry-After header; `extras`: further members of the body.
    """

    def __init__(
        self, kind: str, detail: str, *, retry_after_s: int | None = None, **extras: Any
    ) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.extras = kind, detail, extras
        self.headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}


def register(app: Flask, titles: Titles) -> None:
    """Make every error of `app` a problem response, including Flask's own errors.

    `titles`: the service's problem types in addition to `COMMON`. An exception that is not a
    `Problem` is logged with its traceback and answered with 500.
    """
    responses = _Responses({**COMMON, **titles})
    app.register_error_handler(Problem, responses.of_problem)
    app.register_error_handler(HTTPException, responses.of_http_exception)
    app.register_error_handler(Exception, responses.of_bug)


class _Responses:
    def __init__(self, titles: Titles) -> None:
        self._titles = titles

    def of_problem(self, problem: Problem) -> Response:
        return self._response(problem.kind, problem.detail, problem.extras, problem.headers)

    def of_http_exception(self, error: HTTPException) -> Response:
        kind = TYPE_OF_STATUS.get(error.code or 500)
        if kind is None:
            kind = "malformed-request" if (error.code or 500) < 500 else "internal-error"
        allowed = getattr(error, "valid_methods", None)
        headers = {"Allow": ", ".join(sorted(allowed))} if allowed else {}
        return self._response(kind, error.description or error.name, {}, headers)

    def of_bug(self, error: Exception) -> Response:
        log.error("%s %s failed", request.method, request.path, exc_info=error)
        return self._response("internal-error", "the service has failed; see its log", {}, {})

    def _response(
        self, kind: str, detail: str, extras: Mapping[str, Any], headers: Mapping[str, str]
    ) -> Response:
        status, title = self._titles[kind]
        body = {
            "type": f"urn:postjournal:problem:{kind}",
            "title": title,
            "status": status,
            "detail": detail,
            "instance": request.path,
            **extras,
        }
        return Response(msgspec.json.encode(body), status, dict(headers), content_type=MEDIA_TYPE)
