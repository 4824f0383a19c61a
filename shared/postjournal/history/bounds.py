"""Parses points in a journal: an offset, a sequence or a time."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from postjournal.core.errors import ConfigurationError
from postjournal.core.reader import Bound

BOUND_SYNTAX = "use offset:N, seq:N or time:2026-01-31T12:00:00Z"

DIGITS = re.compile(r"[0-9]{1,18}")
"""Offsets, sequences and times have 64 bits; `int` refuses thousands of digits."""


def parse_bound(text: str) -> Bound:
    """Parse `offset:N`, `seq:N` or `time:T`, where T is as for `parse_time`.

    Raises `ConfigurationError`.
    """
    kind, _, value = text.partition(":")
    if kind == "offset":
        return Bound(offset=_number(text, value))
    if kind == "seq":
        return Bound(seq=_number(text, value))
    if kind == "time":
        return Bound(time=parse_time(value))
    raise _invalid_position(text)


def parse_time(text: str) -> int:
    """Parse a time into ms since the Unix epoch.

    `text`: such a number, or ISO 8601, which is UTC unless it has an offset. Raises
    `ConfigurationError`.
    """
    if text.isascii() and text.isdigit():
        return _number(text, text)
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(f"invalid time {text!r}: {BOUND_SYNTAX}") from error
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return int(time.timestamp() * 1000)


def _number(text: str, value: str) -> int:
    if not DIGITS.fullmatch(value):
        raise _invalid_position(text)
    return int(value)


def _invalid_position(text: str) -> ConfigurationError:
    return ConfigurationError(f"invalid journal position {text!r}: {BOUND_SYNTAX}")
