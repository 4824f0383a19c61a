"""The fold: which records of the journal are accepted, and who leads. The heart of the system.

Every replica folds the same offsets with this function and so reaches the same verdict on every
record, with no other coordination. docs/protocol.md gives each rule with the attack that it stops.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from hashlib import blake2b
from typing import Any

from postjournal.core.errors import NewerFormat
from postjournal.core.records import (
    GENESIS_DIGEST,
    Claim,
    Entry,
    Heartbeat,
    Record,
    Resign,
    UnknownRecord,
)


class Verdict(Enum):
    """What a record is to every replica, now and at every later reading."""

    ACCEPTED = "accepted"
    VOID = "void"
    DIGEST_MISMATCH = "void_alarm"  # only the running hash differs: a bug, or a damaged journal
    UNSUPPORTED = "beyond"  # accepted, but only a newer release can read it


def check_readable(offset: int, record: Record[Any], verdict: Verdict) -> None:
    """Raise `NewerFormat` when the record is accepted and this release cannot read it.

    To continue would be worse: a replica that considers void what others accept has a different
    state from theirs, and they would accept its claims.
    """
    if verdict is Verdict.UNSUPPORTED:
        assert type(record) is UnknownRecord
        assert record.newer is not None
        raise NewerFormat(offset, record.newer.what)


def next_digest(digest: str, value: bytes) -> str:
    """Return the digest after an entry, 32 hex characters.

    BLAKE2b-128 of `digest`, the one before (as ASCII), followed by `value`, the entry's bytes as
    stored.
    """
    running = blake2b(digest.encode("ascii"), digest_size=16)
    running.update(value)
    return running.hexdigest()


@dataclass(slots=True)
class JournalState:
    """The state of the fold after some offset of the journal.

    `leader`: the incarnation that leads `epoch`, None in epoch 0; `alive_at`: the offset of its
    last accepted record; `published`: sink → first sequence not yet known to be in the topic.
    `time`: the latest time of the accepted entries, ms since the Unix epoch; no rule depends on
    it. `claim`: the accepted claim, with the leader's name and tripwire address.
    """

    epoch: int = 0
    leader: str | None = None
    alive_at: int = -1
    resigned: bool = False
    next_seq: int = 0
    digest: str = GENESIS_DIGEST
    published: dict[str, int] = field(default_factory=dict)
    claim: Claim | None = None
    successor: str | None = None
    time: int = 0

    def fold(
        self, offset: int, record: Record[Any], value: bytes, digest_after: str | None = None
    ) -> Verdict:
        """Apply the rules to the record at `offset`; `value` is its bytes as stored.

        `digest_after`: for an entry, `next_digest(entry.digest_before, value)` if the caller has
        it already; hashing is a thirtieth of a leader's cost per command *(measured)*.
        """
        kind = type(record)
        if kind is Entry:
            return self._entry(offset, record, value, digest_after)  # type: ignore[arg-type]
        if kind is Heartbeat:
            return self._heartbeat(offset, record)  # type: ignore[arg-type]
        if kind is Claim:
            return self._claim(offset, record)  # type: ignore[arg-type]
        if kind is Resign:
            return self._resign(offset, record)  # type: ignore[arg-type]
        return self._unknown(record)  # type: ignore[arg-type]

    def _claim(self, offset: int, claim: Claim) -> Verdict:
        if claim.epoch != self.epoch + 1 or claim.seen < self.alive_at:
            return Verdict.VOID
        self.epoch, self.leader, self.alive_at = claim.epoch, claim.incarnation, offset
        self.resigned, self.successor, self.claim = False, None, claim
        return Verdict.ACCEPTED

    def _entry(
        self, offset: int, entry: Entry[Any], value: bytes, digest_after: str | None
    ) -> Verdict:
        if not self._is_next(entry):
            return Verdict.VOID
        if entry.digest_before != self.digest:
            return Verdict.DIGEST_MISMATCH
        self.alive_at = offset
        self.next_seq += len(entry.batch)
        self.digest = digest_after or next_digest(self.digest, value)
        self.time = max(self.time, entry.time)
        self._mark(entry.published)
        return Verdict.ACCEPTED

    def _heartbeat(self, offset: int, heartbeat: Heartbeat) -> Verdict:
        if not self._is_current_leader(heartbeat.epoch) or heartbeat.seq != self.next_seq:
            return Verdict.VOID
        self.alive_at = offset
        self._mark(heartbeat.published)
        return Verdict.ACCEPTED

    def _resign(self, offset: int, resign: Resign) -> Verdict:
        if resign.epoch != self.epoch or self.leader is None:
            return Verdict.VOID
        self.alive_at, self.resigned, self.successor = offset, True, resign.successor
        return Verdict.ACCEPTED

    def would_accept(self, entry: Entry[Any]) -> bool:
        """Whether `fold` will accept this entry."""
        return self._is_next(entry) and entry.digest_before == self.digest

    def _is_next(self, entry: Entry[Any]) -> bool:
        is_current = self._is_current_leader(entry.epoch)
        return is_current and entry.seq == self.next_seq and bool(entry.batch)

    def _unknown(self, record: UnknownRecord) -> Verdict:
        newer = record.newer
        if newer is None or not self._is_current_leader(newer.epoch) or newer.seq != self.next_seq:
            return Verdict.VOID
        return Verdict.UNSUPPORTED if newer.digest_before in (None, self.digest) else Verdict.VOID

    def _is_current_leader(self, epoch: int) -> bool:
        """Whether `epoch` has a leader that has not resigned; epoch 0 has none."""
        return epoch == self.epoch and self.leader is not None and not self.resigned

    def _mark(self, published: dict[str, int]) -> None:
        """Raise the marks; never lower one: a new leader may know less than its predecessor."""
        marks = self.published
        for sink, next_seq in published.items():
            if next_seq > marks.get(sink, 0):
                marks[sink] = next_seq
