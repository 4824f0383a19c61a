"""The fold of docs/protocol.md, with the reason for every record that is void."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from enum import StrEnum
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from postjournal.core.records import (
    GENESIS_DIGEST,
    Claim,
    Codec,
    Entry,
    Heartbeat,
    Record,
    Resign,
    UnknownRecord,
)
from postjournal.verify.rules import Findings, Rule
from postjournal.verify.snapshots import Header

RECENT_VOIDS = 8
"""Void records since the last accepted entry that are kept to explain a gap."""

HEARTBEAT_PROOF = "a leader writes a heartbeat only when it has read back everything before it"

KINDS: dict[type, str] = {
    Claim: "claim",
    Entry: "entry",
    Heartbeat: "heartbeat",
    Resign: "resign",
    UnknownRecord: "foreign",
}


class VoidReason(StrEnum):
    """Why a record changes nothing."""

    UNKNOWN_RECORD = "not a Postjournal record"
    LATE_CLAIM = "another claim of the epoch came first"
    OUTDATED_CLAIM = "the leader wrote after the last offset that the claimant had seen"
    EARLY_CLAIM = "the epoch before it was never claimed"
    PAST_EPOCH = "its epoch is over"
    UNCLAIMED_EPOCH = "its epoch was never claimed"
    RESIGNED = "its leader has resigned"
    BEHIND = "an accepted entry already has its seq"
    AHEAD = "entries before its seq are missing"
    EMPTY = "its batch is empty"
    DIGEST_MISMATCH = "its digest_before is not the journal's digest"


class VoidRecord(NamedTuple):
    """A void record that may explain a later one."""

    offset: int
    record: Record[Any]
    reason: VoidReason


class AcceptedRecord(NamedTuple):
    """An accepted record with the journal's `next_seq` and `digest` after it."""

    offset: int
    record: Record[Any]
    next_seq: int
    digest: str


class _DisputedEntry(NamedTuple):
    """An entry in which only the running hash is wrong."""

    offset: int
    entry: Entry[Any]
    value: bytes


class Gap(NamedTuple):
    """A leader's record whose seq is beyond the journal's.

    A gap alone is not damage: a leader may lose an append and have a later one acknowledged. Its
    leadership then ends, and nothing behind the gap is published. `suspects`: void records at the
    position of the missing entry.
    """

    offset: int
    next_seq: int
    got: int
    digest: str
    suspects: tuple[VoidRecord, ...]


def next_digest(digest: str, value: bytes) -> str:
    """BLAKE2b-128 over the digest's 32 hex characters and the entry's bytes, in hex."""
    return blake2b(digest.encode("ascii") + value, digest_size=16).hexdigest()


class JournalFold:
    """Decides for each record whether it is accepted, and checks the record by itself.

    When only the running hash of an entry is wrong, the next record of a leader decides: if it
    builds on that entry, the fold continues as if the entry were accepted, so that damage behind it
    is found as well. For replicas the journal ends at that entry.
    """

    def __init__(self, topic: str, codec: Codec[Any], findings: Findings) -> None:
        self._topic, self._codec, self._findings = topic, codec, findings
        self.epoch = 0
        self.leader: Claim | None = None
        self.alive_at = -1
        self.resigned = False
        self.next_seq = 0
        self.digest = GENESIS_DIGEST
        self.gap: Gap | None = None
        self.accepted: Counter[str] = Counter()
        self.void_reasons: Counter[str] = Counter()
        self.void_kinds: Counter[str] = Counter()
        self._last_entry_offset = -1
        self._disputed: _DisputedEntry | None = None
        self._recent_voids: deque[VoidRecord] = deque(maxlen=RECENT_VOIDS)

    def resume(self, header: Header) -> None:
        """Start behind a snapshot whose content is trusted."""
        self.epoch, self.leader, self.resigned = header.epoch, header.claim, header.resigned
        self.alive_at, self.next_seq, self.digest = header.alive_at, header.next_seq, header.digest

    def fold(self, offset: int, record: Record[Any], value: bytes) -> list[AcceptedRecord]:
        """Fold the record at `offset`, whose stored bytes are `value`.

        Returns what this accepts, in order: a disputed entry before it that the record confirms,
        if there is one, and the record itself unless it is void.
        """
        resolved = [] if self._disputed is None else self._resolve_disputed(record)
        reason = self._void_reason(offset, record)
        if reason is not None:
            self._note_void(offset, record, reason)
            return resolved
        if type(record) is Entry and record.digest_before != self.digest:
            self._dispute(offset, record, value)
            return resolved
        return [*resolved, self._accept(offset, record, value)]

    def _accept(self, offset: int, record: Record[Any], value: bytes) -> AcceptedRecord:
        self.accepted[KINDS[type(record)]] += 1
        self.alive_at = offset
        if type(record) is Entry:
            self.digest = next_digest(record.digest_before, value)
            self.next_seq += len(record.batch)
            self._last_entry_offset = offset
            self._recent_voids.clear()
            self.gap = None
        elif type(record) is Claim:
            self.epoch, self.leader, self.resigned = record.epoch, record, False
        elif type(record) is Resign:
            self.resigned = True
        return AcceptedRecord(offset, record, self.next_seq, self.digest)

    def _dispute(self, offset: int, entry: Entry[Any], value: bytes) -> None:
        text = (
            f"the entry of seq {entry.seq} has digest_before {entry.digest_before}, but the "
            f"journal's digest is {self.digest}: this entry, or the entry before it at offset "
            f"{self._last_entry_offset}, was changed; replicas ignore this entry"
        )
        self._findings.add(Rule.DIGEST_CHAIN, self._topic, offset, text)
        self._disputed = _DisputedEntry(offset, entry, value)

    def _resolve_disputed(self, record: Record[Any]) -> list[AcceptedRecord]:
        """Accept the disputed entry if the leader's next record builds on it."""
        if not isinstance(record, Entry | Heartbeat) or record.epoch != self.epoch:
            return []
        disputed, self._disputed = self._disputed, None
        assert disputed is not None
        if self._builds_on(disputed, record):
            return [self._accept(disputed.offset, disputed.entry, disputed.value)]
        self._note_void(disputed.offset, disputed.entry, VoidReason.DIGEST_MISMATCH)
        return []

    def _builds_on(self, disputed: _DisputedEntry, record: Entry[Any] | Heartbeat) -> bool:
        """Whether `record` was written after the disputed entry was accepted.

        Its seq must follow. An entry's hash must also be that of the disputed entry, either as
        stored or with the correct `digest_before`. For a heartbeat the seq is enough: it is written
        only when everything before it is read back.
        """
        if record.seq != disputed.entry.seq + len(disputed.entry.batch):
            return False
        if isinstance(record, Heartbeat):
            return True
        corrected = msgspec.structs.replace(disputed.entry, digest_before=self.digest)
        as_stored = next_digest(disputed.entry.digest_before, disputed.value)
        as_corrected = next_digest(self.digest, self._codec.encode(corrected))
        return record.digest_before in (as_stored, as_corrected)

    def _void_reason(self, offset: int, record: Record[Any]) -> VoidReason | None:
        if type(record) is UnknownRecord:
            return VoidReason.UNKNOWN_RECORD
        if type(record) is Claim:
            return self._claim_void_reason(offset, record)
        assert not isinstance(record, UnknownRecord | Claim)
        if record.epoch < max(self.epoch, 1):  # epoch 0 has no leader
            return VoidReason.PAST_EPOCH
        if record.epoch > self.epoch:
            return VoidReason.UNCLAIMED_EPOCH
        if type(record) is Resign:
            return None
        assert isinstance(record, Entry | Heartbeat)
        return self._leader_void_reason(record)

    def _claim_void_reason(self, offset: int, claim: Claim) -> VoidReason | None:
        if claim.seen >= offset:
            text = (
                f"the claim of epoch {claim.epoch} has `seen` {claim.seen}, beyond its own offset"
            )
            self._findings.add(Rule.CLAIM_HONEST, self._topic, offset, text)
        if claim.epoch <= self.epoch:
            return VoidReason.LATE_CLAIM
        if claim.epoch > self.epoch + 1:
            return VoidReason.EARLY_CLAIM
        return VoidReason.OUTDATED_CLAIM if claim.seen < self.alive_at else None

    def _leader_void_reason(self, record: Entry[Any] | Heartbeat) -> VoidReason | None:
        if self.resigned:
            return VoidReason.RESIGNED
        if record.seq != self.next_seq:
            return VoidReason.AHEAD if record.seq > self.next_seq else VoidReason.BEHIND
        return VoidReason.EMPTY if type(record) is Entry and not record.batch else None

    # --- void records -----------------------------------------------------------------------------

    def _note_void(self, offset: int, record: Record[Any], reason: VoidReason) -> None:
        self.void_kinds[KINDS[type(record)]] += 1
        self.void_reasons[reason.value] += 1
        if reason in (VoidReason.UNCLAIMED_EPOCH, VoidReason.EARLY_CLAIM):
            self._report_unclaimed(offset, record)
        elif reason is VoidReason.AHEAD:
            self._note_gap(offset, record)
        if self.gap is None:
            self._recent_voids.append(VoidRecord(offset, record, reason))

    def _report_unclaimed(self, offset: int, record: Record[Any]) -> None:
        """A leader writes only after it has read back its claim; a claimant, the last claim."""
        voids = _describe_all(self._recent_voids)
        text = f"the {describe(record)} comes directly after epoch {self.epoch}{voids}"
        self._findings.add(Rule.EPOCH_CLAIMED, self._topic, offset, text)

    def _note_gap(self, offset: int, record: Record[Any]) -> None:
        assert isinstance(record, Entry | Heartbeat)
        if self.gap is None:
            digest = record.digest_before if isinstance(record, Entry) else ""
            suspects = tuple(void for void in self._recent_voids if self._may_fill_gap(void.record))
            self.gap = Gap(offset, self.next_seq, record.seq, digest, suspects)
            if type(record) is Heartbeat:
                self.confirm_gap(HEARTBEAT_PROOF)

    def _may_fill_gap(self, record: Record[Any]) -> bool:
        """Whether the void record may be the missing entry."""
        return isinstance(record, UnknownRecord) or (
            isinstance(record, Entry) and record.seq == self.next_seq
        )

    def confirm_gap(self, proof: str) -> None:
        """Report the open gap as damage, once; `proof`: why it is not just a lost append."""
        gap = self.gap
        if gap is None or self._findings[Rule.SEQ_DENSE]:
            return
        missing = self._missing_entry(gap)
        if missing is None:
            offset = gap.offset
            text = (
                f"the entries of seq {gap.next_seq} to {gap.got - 1} are missing before offset "
                f"{gap.offset} ({proof}){_describe_all(gap.suspects)}"
            )
        else:
            offset = missing.offset
            text = (
                f"this void record ({missing.reason.value}) is the entry of seq {gap.next_seq} "
                f"that offset {gap.offset} builds on ({proof})"
            )
        self._findings.add(Rule.SEQ_DENSE, self._topic, offset, text)

    def _missing_entry(self, gap: Gap) -> VoidRecord | None:
        """The missing entry among the voids: proven by the hash, or the only unreadable one."""
        for void in gap.suspects:
            if isinstance(void.record, Entry) and self._was_accepted(void.record, gap):
                return void
        unknown = [void for void in gap.suspects if void.reason is VoidReason.UNKNOWN_RECORD]
        return unknown[0] if len(unknown) == 1 else None

    def _was_accepted(self, entry: Entry[Any], gap: Gap) -> bool:
        """With the right epoch, the next entry builds on its hash, or it fits the gap."""
        if gap.digest:
            corrected = msgspec.structs.replace(entry, epoch=self.epoch)
            return next_digest(self.digest, self._codec.encode(corrected)) == gap.digest
        fits = entry.seq + len(entry.batch) == gap.got
        return fits and entry.digest_before == self.digest


def describe(record: Record[Any]) -> str:
    """A record's kind and epoch, for findings."""
    kind = KINDS[type(record)]
    if isinstance(record, UnknownRecord):
        return f"{kind} record ({record.error})"
    return f"{kind} of epoch {record.epoch}"


def _describe_all(voids: Iterable[VoidRecord]) -> str:
    items = ", ".join(f"@{void.offset} {describe(void.record)}: {void.reason}" for void in voids)
    return f"; void records before it: {items}" if items else ""
