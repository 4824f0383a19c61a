"""Parsing of request parameters and bodies, for all services."""

from __future__ import annotations

import re
from typing import Any

from flask import request
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]
from werkzeug.exceptions import ClientDisconnected

from services.problems import Problem

WHOLE_NUMBER = re.compile(r"[0-9]{1,18}")
"""At most 18 digits: fits in 64 bits, and `int` raises an exception for thousands of digits."""


def shard_number(text: str, shards: int) -> int:
    """Parse the number of a shard, less than `shards`.

    Raises `Problem`: malformed-request when it is not a number, not-found when it is too large.
    """
    if not (text.isascii() and text.isdigit()):
        raise Problem(
            "malformed-request", f"invalid shard {text!r}: expected a whole number from 0"
        )
    if not WHOLE_NUMBER.fullmatch(text) or int(text) >= shards:
        raise Problem(
            "not-found", f"shard {text} does not exist: there are {shards}, numbered from 0"
        )
    return int(text)


def whole_body(**extras: Any) -> bytes:
    """Return the whole body of the request.

    Raises `Problem` (malformed-request, with the members `extras`) for a truncated body: the first
    lines of a batch could be mistaken for the whole batch.
    """
    try:
        body = request.get_data(cache=False)
    except ParseException as error:  # from gunicorn, for an invalid chunk
        raise Problem("malformed-request", f"invalid body: {error}", **extras) from error
    except ClientDisconnected as error:
        raise _truncated(extras) from error
    if len(body) < (request.content_length or 0):
        raise _truncated(extras)
    return body


def _truncated(extras: dict[str, Any]) -> Problem:
    return Problem("malformed-request", "the body is truncated; send it again", **extras)
