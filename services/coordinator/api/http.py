"""The checks of requests and the responses that the API's handlers share."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
from flask import Response, request

from postjournal.core.records import UNREADABLE
from services.coordinator.coordinator import Coordinator
from services.coordinator.ports import UNAVAILABLE
from services.coordinator.problems import RETRY_AFTER_S
from services.parameters import whole_body
from services.problems import Problem

JSON = "application/json"

T = TypeVar("T")


def authorize(token: str | None) -> None:
    """Check that the client may change the system.

    `token`: the required bearer token, compared in constant time; None: no token is required.
    Raises `Problem`: unauthorized, or cross-site when a browser has sent the request for a page of
    another site, as its header `Sec-Fetch-Site` shows.
    """
    site = request.headers.get("Sec-Fetch-Site", "none")
    if site not in ("same-origin", "none"):
        raise Problem("cross-site", f"Sec-Fetch-Site is {site!r}, expected same-origin or none")
    if token is None:
        return
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    is_right = hmac.compare_digest(credentials.strip().encode(), token.encode())
    if scheme.lower() != "bearer" or not is_right:
        raise Problem("unauthorized", "send the header Authorization: Bearer TOKEN")


def decode_body(body_type: type[T], *, is_required: bool = False) -> T:
    """Decode the request's JSON body; no body is the same as `{}`, unless it `is_required`.

    Raises `Problem`: malformed-request or unsupported-media-type.
    """
    data = whole_body()
    if (data or is_required) and request.mimetype != JSON:
        raise Problem(
            "unsupported-media-type",
            f"the Content-Type is {request.mimetype or 'missing'}, expected {JSON}",
        )
    try:
        return msgspec.json.decode(data or b"{}", type=body_type)
    except UNREADABLE as error:
        raise Problem("malformed-request", str(error)) from error


def check_shard(coordinator: Coordinator, shard: int) -> None:
    """Raises `Problem` (not-found) unless `shard` exists."""
    if not 0 <= shard < coordinator.shards:
        raise Problem(
            "not-found",
            f"shard {shard} does not exist: there are {coordinator.shards}, numbered from 0",
        )


def check_cluster_is_known(coordinator: Coordinator) -> None:
    """Raises `Problem` (unavailable) until the status and control topics have been read."""
    reason = coordinator.follower.unavailable_reason
    if reason:
        raise Problem("unavailable", reason, retry_after_s=RETRY_AFTER_S)


@contextmanager
def unavailable_as_503() -> Iterator[None]:
    """Turn an exception of Kafka or of the snapshot store into the problem unavailable."""
    try:
        yield
    except UNAVAILABLE as error:
        raise Problem("unavailable", str(error), retry_after_s=RETRY_AFTER_S) from error


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON response. `body`: anything that msgspec can encode."""
    return Response(msgspec.json.encode(body), status, headers, content_type=JSON)
