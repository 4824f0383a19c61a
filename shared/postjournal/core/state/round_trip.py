"""Events as they are read back from the journal."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import msgspec
from msgspec import inspect

E = TypeVar("E")

EVENTS_BYTES = 2_000_000
"""The bound for one command's events in JSON; an entry, which holds them, may have 8,000,000."""

MAX_DEPTH = 100
"""The bound for nested JSON arrays and objects; Python's stack bounds what a reader can decode."""

SHALLOW_BYTES = 2 * MAX_DEPTH
"""Shorter JSON cannot be nested deeper: each level takes a bracket at both ends."""

PLAIN = (inspect.StrType, inspect.IntType, inspect.BoolType)
"""Types whose values, read back, are encoded again to the same bytes."""

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')


class EventRoundTrip(Generic[E]):
    """Replaces events by what decoding the journal returns for them, which must be equal.

    msgspec does not validate the arguments of a struct. A float where an int is declared, or NaN,
    would be appended and acknowledged, and then no replica could decode it. And a leader's events
    must not share a list with its state, since a standby's do not. `event_type`: a msgspec
    struct, or a union of tagged ones.
    """

    def __init__(self, event_type: object) -> None:
        # Else a set that is decoded in another order would count as a change.
        self._encode = msgspec.json.Encoder(order="deterministic").encode
        self._decode: Callable[[bytes], tuple[E, ...]]
        self._decode = msgspec.json.Decoder(tuple[event_type, ...]).decode  # type: ignore[valid-type]
        self._is_plain = _is_plain(inspect.type_info(event_type))

    def round_trip(self, events: Sequence[E]) -> tuple[tuple[E, ...], int]:
        """Return the events as read back, and their size in JSON bytes.

        Raises `ValueError`, or what msgspec raises, if they would change or are too large.
        """
        written = self._encode(events)
        read = self._decode(written)
        if not self._is_plain and self._encode(read) != written:
            raise ValueError("the events change in the journal: check the types of their fields")
        size = len(written)
        if size > SHALLOW_BYTES:
            _check_large(written)
        return read, size


def _is_plain(event_type: inspect.Type) -> bool:
    """Whether everything that can be decoded is encoded again to the same bytes.

    Then the comparison is left out: it is a twentieth of a leader's cost per command *(measured)*.
    """
    if isinstance(event_type, inspect.UnionType):
        return all(map(_has_plain_fields, event_type.types))
    return _has_plain_fields(event_type)


def _has_plain_fields(info: inspect.Type) -> bool:
    if not isinstance(info, inspect.StructType) or hasattr(info.cls, "__post_init__"):
        return False
    return all(isinstance(field.type, PLAIN) for field in info.fields)


def _check_large(written: bytes) -> None:
    if len(written) > EVENTS_BYTES:
        raise ValueError(f"events of {len(written):,} bytes in JSON: the limit is {EVENTS_BYTES:,}")
    if written.count(b"[") + written.count(b"{") > MAX_DEPTH and _depth(written) > MAX_DEPTH:
        raise ValueError(f"events nested deeper than the limit of {MAX_DEPTH} levels")


def _depth(written: bytes) -> int:
    depth = deepest = 0
    for byte in _STRING.sub(b"", written):
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest
