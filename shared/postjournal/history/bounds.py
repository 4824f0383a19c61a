"""Points in a journal as people write them: an offset, a sequence, a time."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from postjournal.core.errors import ConfigurationError
from postjournal.core.reader import Bound

BOUND_SYNTAX = "use offset:N, seq:N or time:2026-01-31T12:00:00Z"

DIGITS = re.compile(r"[0-9]{1,18}")
"""Offsets, sequences and times have 64 bits; `int` refuses thousands of digits."""


def parse_bound(text: str) -> Bound:
    """Of `offset:N`, `seq:N`, `time:T`. Raises `ConfigurationError`."""
    kind, _, value = text.partition(":")
    if kind == "offset":
        return Bound(offset=_number(text, value))
    if kind == "seq":
        return Bound(seq=_number(text, value))
    if kind == "time":
        return Bound(time=parse_time(value))
    raise ConfigurationError(f"{text!r} is no point in a journal: {BOUND_SYNTAX}")


def parse_time(text: str) -> int:
    """ms since the Unix epoch, of such a number or of ISO 8601, which is UTC where it does not
    say otherwise. Raises `ConfigurationError`."""
    if text.isascii() and text.isdigit():
        return _number(text, text)
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(f"{text!r} is no time: {BOUND_SYNTAX}") from error
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return int(time.timestamp() * 1000)


def _number(text: str, value: str) -> int:
    if not DIGITS.fullmatch(value):
        raise ConfigurationError(f"{text!r} is no point in a journal: {BOUND_SYNTAX}")
    return int(value)
