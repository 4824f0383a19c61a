"""What several services read out of a request."""

from __future__ import annotations

import re
from typing import Any

from flask import request
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]
from werkzeug.exceptions import ClientDisconnected

from services.problems import Problem

WHOLE_NUMBER = re.compile(r"[0-9]{1,18}")
"""Of 64 bits, and short enough for `int`, which refuses thousands of digits."""


def shard_number(text: str, shards: int) -> int:
    """A shard by its number. Raises `Problem`."""
    if not (text.isascii() and text.isdigit()):
        raise Problem("malformed-request", "shard: a whole number from 0")
    if not WHOLE_NUMBER.fullmatch(text) or int(text) >= shards:
        raise Problem("not-found", f"there are {shards} shards, from 0")
    return int(text)


def whole_body(**extras: Any) -> bytes:
    """The request's body; `extras` become members of the `Problem` that is raised without one.

    A body that breaks off is none: the first lines of a batch could pass for all of it.
    """
    try:
        body = request.get_data(cache=False)
    except ParseException as error:  # gunicorn's, of a chunk
        raise Problem("malformed-request", f"the body: {error}", **extras) from error
    except ClientDisconnected as error:
        raise _broken_off(extras) from error
    if len(body) < (request.content_length or 0):
        raise _broken_off(extras)
    return body


def _broken_off(extras: dict[str, Any]) -> Problem:
    return Problem(
        "malformed-request", "the body broke off before its end; send it again", **extras
    )
