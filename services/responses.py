"""JSON responses of the services."""

from __future__ import annotations

from typing import Any

import msgspec
from flask import Response

JSON = "application/json"


def json_response(body: Any, status: int = 200) -> Response:
    """A response with `body` as JSON; msgspec must be able to encode it."""
    return Response(msgspec.json.encode(body), status, content_type=JSON)
