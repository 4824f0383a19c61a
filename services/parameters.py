"""What several services read out of a request's parameters."""

from __future__ import annotations

import re

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
