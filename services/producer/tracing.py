"""W3C Trace Context: https://www.w3.org/TR/trace-context/, version 00."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
MAX_TRACESTATE = 512
"""Characters; the standard lets a longer one be dropped."""

RECORDED = 1


@dataclass(frozen=True)
class Trace:
    """Where this request stands: the trace it belongs to, and the gateway's own span in it."""

    trace_id: str
    span_id: str
    flags: int
    state: str | None = None

    @property
    def parent(self) -> str:
        """A `traceparent` for whoever comes next."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        """For the command's record in Kafka."""
        headers = [("traceparent", self.parent.encode())]
        if self.state:
            headers.append(("tracestate", self.state.encode()))
        return headers


def trace_of(traceparent: str | None, tracestate: str | None) -> Trace:
    """Goes on with the caller's trace; a header that is missing or malformed begins another."""
    found = TRACEPARENT.fullmatch((traceparent or "").strip())
    if found is None or not _is_valid(*found.groups()):
        return Trace(os.urandom(16).hex(), os.urandom(8).hex(), RECORDED)
    usable = tracestate if tracestate and len(tracestate) <= MAX_TRACESTATE else None
    state = usable if usable and usable.isascii() else None
    return Trace(found[2], os.urandom(8).hex(), int(found[4], 16) & RECORDED, state)


def _is_valid(version: str, trace_id: str, parent_id: str, _flags: str, rest: str | None) -> bool:
    """Later versions may have more at the end; version 00 may not."""
    is_known = version != "ff" and not (version == "00" and rest)
    return is_known and bool(int(trace_id, 16)) and bool(int(parent_id, 16))
