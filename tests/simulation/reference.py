"""The protocol implemented a second time, plain and slow, from "The fold" in docs/protocol.md.

It imports nothing from the engine. `ReferenceFold` is the fold of the journal, `reference_ledger`
the application; `reference_shard` replays accepted entries from the source records.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import msgspec

Json = dict[str, Any]
Point = tuple[int, str | None, int, bool, int, str, dict[str, int]]
"""epoch, leader, alive_at, resigned, next_seq, digest, published"""

ACCEPTED, VOID, ALARM = "accepted", "void", "alarm"
KINDS = ("claim", "entry", "heartbeat", "resign")


_decode = msgspec.json.Decoder().decode


def parsed(value: bytes | None) -> Any:
    """The value decoded as JSON; None if it is not JSON."""
    try:
        return _decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class ReferenceFold:
    """The state `epoch, leader, alive_at, resigned, next_seq, digest, published` of a journal."""

    def __init__(self) -> None:
        self.epoch, self.leader, self.alive_at = 0, None, -1
        self.resigned, self.next_seq, self.digest = False, 0, "0" * 32
        self.published: dict[str, int] = {}

    def point(self) -> Point:
        """A copy of the current state."""
        return (self.epoch, self.leader, self.alive_at, self.resigned, self.next_seq,
                self.digest, dict(self.published))  # fmt: skip

    def take(self, offset: int, value: bytes, record: Json | None) -> str:
        """Fold a record and return the verdict on it."""
        kind = record.get("kind") if isinstance(record, dict) else None
        if kind not in KINDS or record is None:
            return VOID
        if kind == "claim":
            return self._claim(offset, record)
        current = record["epoch"] == self.epoch and self.epoch > 0
        if kind == "resign":
            if current:
                self.alive_at, self.resigned = offset, True
            return ACCEPTED if current else VOID
        if not current or self.resigned or record["seq"] != self.next_seq:
            return VOID
        if kind == "entry" and not record["batch"]:
            return VOID
        if kind == "entry" and record["digest_before"] != self.digest:
            return ALARM
        self.alive_at = offset
        if kind == "entry":
            self.next_seq += len(record["batch"])
            self.digest = blake2b(self.digest.encode() + value, digest_size=16).hexdigest()
        for sink, mark in record["published"].items():
            if mark > self.published.get(sink, 0):  # marks never decrease
                self.published[sink] = mark
        return ACCEPTED

    def _claim(self, offset: int, claim: Json) -> str:
        if claim["epoch"] == self.epoch + 1 and claim["seen"] >= self.alive_at:
            self.epoch, self.leader = claim["epoch"], claim["incarnation"]
            self.alive_at, self.resigned = offset, False
            return ACCEPTED
        return VOID
