"""Events as they come back out of the journal."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import msgspec
from msgspec import inspect

E = TypeVar("E")

EVENTS_BYTES = 2_000_000
"""Of one command's events in JSON; an entry, which holds them whole, may have 8,000,000."""

MOST_NESTED = 100
"""JSON arrays and objects in one another; Python's stack bounds what a reader can take."""

SHALLOW_BYTES = 2 * MOST_NESTED
"""Shorter JSON is not nested deeper: each level takes a bracket at both ends."""

PLAIN = (inspect.StrType, inspect.IntType, inspect.BoolType)
"""Types of which a value that is read back is written again byte by byte as it was."""

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')


class EventRoundTrip(Generic[E]):
    """Turns events into what the journal gives back of them, which must be the same.

    msgspec does not look at what a struct is made with. A float where an int is declared, or NaN,
    would be written, acknowledged, and read by nobody: neither the standbys nor a next leader.
    Nor may a leader's events share a list with its state: a standby's do not.
    """

    def __init__(self, event_type: object) -> None:
        """`event_type`: a msgspec struct, or a union of tagged ones."""
        # Else a set that comes back in another order would pass for another one.
        self._encode = msgspec.json.Encoder(order="deterministic").encode
        self._decode: Callable[[bytes], tuple[E, ...]]
        self._decode = msgspec.json.Decoder(tuple[event_type, ...]).decode  # type: ignore[valid-type]
        self._is_plain = _is_plain(inspect.type_info(event_type))

    def round_trip(self, events: Sequence[E]) -> tuple[tuple[E, ...], int]:
        """The events as read, and their bytes in JSON.

        Raises `ValueError`, or what msgspec raises, if they would change, or be too large.
        """
        written = self._encode(events)
        read = self._decode(written)
        if not self._is_plain and self._encode(read) != written:
            raise ValueError("the journal would give back other events: see the fields' types")
        size = len(written)
        if size > SHALLOW_BYTES:
            _check_large(written)
        return read, size


def _is_plain(event_type: inspect.Type) -> bool:
    """Whether all that can be read is written again as it was, so that nobody need look.

    To look at what is written again is a twentieth of what a command costs a leader.
    """
    if isinstance(event_type, inspect.UnionType):
        return all(map(_has_plain_fields, event_type.types))
    return _has_plain_fields(event_type)


def _has_plain_fields(info: inspect.Type) -> bool:
    if not isinstance(info, inspect.StructType) or hasattr(info.cls, "__post_init__"):
        return False
    return all(isinstance(each.type, PLAIN) for each in info.fields)


def _check_large(written: bytes) -> None:
    if len(written) > EVENTS_BYTES:
        raise ValueError(f"events of {len(written):,} bytes: at most {EVENTS_BYTES:,} are taken")
    if written.count(b"[") + written.count(b"{") > MOST_NESTED and _depth(written) > MOST_NESTED:
        raise ValueError(f"events nested deeper than {MOST_NESTED} levels")


def _depth(written: bytes) -> int:
    depth = deepest = 0
    for byte in _STRING.sub(b"", written):
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest
