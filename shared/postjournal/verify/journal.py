"""The fold of design.md, section 1, with a reason for every record that does not count."""

from __future__ import annotations

from collections import Counter, deque
from enum import Enum
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

REMEMBERED_VOIDS = 8
"""Void records since the last accepted entry that are kept to explain a gap."""

KINDS: dict[type, str] = {
    Claim: "claim",
    Entry: "entry",
    Heartbeat: "heartbeat",
    Resign: "resign",
    UnknownRecord: "foreign",
}


class Void(Enum):
    """Why a record changes nothing."""

    FOREIGN = "no record of ours"
    LATE_CLAIM = "another claim of the epoch came first"
    OUTLIVED_CLAIM = "the leader showed life after what the claimant had seen"
    EARLY_CLAIM = "the epoch before it was never claimed"
    PAST_EPOCH = "its epoch is over"
    UNCLAIMED_EPOCH = "its epoch was never claimed"
    RESIGNED = "its leader has resigned"
    BEHIND = "its seq is taken"
    AHEAD = "entries before its seq are missing"
    EMPTY = "its batch is empty"
    HASH = "its running hash does not fit"


class VoidRecord(NamedTuple):
    """A void record that may explain what comes after it."""

    offset: int
    record: Record[Any]
    why: Void


class Taken(NamedTuple):
    """A record that counts; `next_seq` and `digest` are those after it."""

    offset: int
    record: Record[Any]
    next_seq: int
    digest: str


class _Doubt(NamedTuple):
    """An entry of which the running hash alone is wrong."""

    offset: int
    entry: Entry[Any]
    value: bytes


class Gap(NamedTuple):
    """A leader's record whose seq lies beyond the journal's.

    A leader may lose an append and have a later one land: then its office ends, nothing of it is
    published, and nothing is wrong. `suspects`: void records in the entry's place.
    """

    offset: int
    next_seq: int
    got: int
    digest: str
    suspects: tuple[VoidRecord, ...]


def chained(digest: str, value: bytes) -> str:
    """BLAKE2b-128 over the digest's 32 hex characters and the entry's bytes, in hex."""
    return blake2b(digest.encode("ascii") + value, digest_size=16).hexdigest()


class JournalFold:
    """Says of each record whether it counts, and checks what can be told of the record alone.

    Of an entry whose running hash alone is wrong the next record of a leader tells more: if it
    builds on that entry, it goes on as if the entry counted, so that damage further on is found
    as well. For replicas the journal ends there.
    """

    def __init__(self, topic: str, codec: Codec[Any], findings: Findings) -> None:
        """Before the first record."""
        self._topic, self._codec, self._findings = topic, codec, findings
        self.epoch = 0
        self.leader: Claim | None = None
        self.alive_at = -1
        self.resigned = False
        self.next_seq = 0
        self.digest = GENESIS_DIGEST
        self.gap: Gap | None = None
        self.accepted: Counter[str] = Counter()
        self.voids: Counter[str] = Counter()
        self.void_kinds: Counter[str] = Counter()
        self._entry_at = -1
        self._doubt: _Doubt | None = None
        self._recent_voids: deque[VoidRecord] = deque(maxlen=REMEMBERED_VOIDS)

    def resume(self, header: Header) -> None:
        """Begin behind a snapshot, trusting it."""
        self.epoch, self.leader, self.resigned = header.epoch, header.claim, header.resigned
        self.alive_at, self.next_seq, self.digest = header.alive_at, header.next_seq, header.digest

    def take(self, offset: int, record: Record[Any], value: bytes) -> list[Taken]:
        """What counts now that the record at `offset` is read; `value` is its bytes as stored.

        Nothing, or that record; before it, at times, one that was in doubt.
        """
        settled = [] if self._doubt is None else self._settle(record)
        why = self._judge(offset, record)
        if why is not None:
            self._void(offset, record, why)
            return settled
        if type(record) is Entry and record.digest_before != self.digest:
            self._suspect(offset, record, value)
            return settled
        return [*settled, self._accept(offset, record, value)]

    def _accept(self, offset: int, record: Record[Any], value: bytes) -> Taken:
        self.accepted[KINDS[type(record)]] += 1
        self.alive_at = offset
        if type(record) is Entry:
            self.digest = chained(record.digest_before, value)
            self.next_seq += len(record.batch)
            self._entry_at = offset
            self._recent_voids.clear()
            self.gap = None
        elif type(record) is Claim:
            self.epoch, self.leader, self.resigned = record.epoch, record, False
        elif type(record) is Resign:
            self.resigned = True
        return Taken(offset, record, self.next_seq, self.digest)

    def _suspect(self, offset: int, entry: Entry[Any], value: bytes) -> None:
        text = (
            f"the entry of seq {entry.seq} has digest_before {entry.digest_before}, the journal's "
            f"is {self.digest}: it, or the entry before it at offset {self._entry_at}, is not "
            "what was written; for replicas it is void"
        )
        self._findings.add(Rule.DIGEST_CHAIN, self._topic, offset, text)
        self._doubt = _Doubt(offset, entry, value)

    def _settle(self, record: Record[Any]) -> list[Taken]:
        """A leader's next record shows whether it builds on the doubtful entry."""
        if not isinstance(record, Entry | Heartbeat) or record.epoch != self.epoch:
            return []
        doubt, self._doubt = self._doubt, None
        assert doubt is not None
        if self._is_built_on(doubt, record):
            return [self._accept(doubt.offset, doubt.entry, doubt.value)]
        self._void(doubt.offset, doubt.entry, Void.HASH)
        return []

    def _is_built_on(self, doubt: _Doubt, record: Entry[Any] | Heartbeat) -> bool:
        """By its seq; an entry's hash must come from the doubtful one as it is, or with its own
        `digest_before` mended. A heartbeat is written when everything before it is read back."""
        if record.seq != doubt.entry.seq + len(doubt.entry.batch):
            return False
        if isinstance(record, Heartbeat):
            return True
        mended = self._codec.encode(msgspec.structs.replace(doubt.entry, digest_before=self.digest))
        as_it_is = chained(doubt.entry.digest_before, doubt.value)
        return record.digest_before in (as_it_is, chained(self.digest, mended))

    def _judge(self, offset: int, record: Record[Any]) -> Void | None:
        if type(record) is UnknownRecord:
            return Void.FOREIGN
        if type(record) is Claim:
            return self._judge_claim(offset, record)
        assert not isinstance(record, UnknownRecord | Claim)
        if record.epoch < max(self.epoch, 1):  # nobody leads epoch 0
            return Void.PAST_EPOCH
        if record.epoch > self.epoch:
            return Void.UNCLAIMED_EPOCH
        return None if type(record) is Resign else self._judge_life(record)  # type: ignore[arg-type]

    def _judge_claim(self, offset: int, claim: Claim) -> Void | None:
        if claim.seen >= offset:
            text = f"the claim of epoch {claim.epoch} says it has seen offset {claim.seen}"
            self._findings.add(Rule.CLAIM_HONEST, self._topic, offset, text)
        if claim.epoch <= self.epoch:
            return Void.LATE_CLAIM
        if claim.epoch > self.epoch + 1:
            return Void.EARLY_CLAIM
        return Void.OUTLIVED_CLAIM if claim.seen < self.alive_at else None

    def _judge_life(self, record: Entry[Any] | Heartbeat) -> Void | None:
        if self.resigned:
            return Void.RESIGNED
        if record.seq != self.next_seq:
            return Void.AHEAD if record.seq > self.next_seq else Void.BEHIND
        return Void.EMPTY if type(record) is Entry and not record.batch else None

    # --- what void records tell -------------------------------------------------------------------

    def _void(self, offset: int, record: Record[Any], why: Void) -> None:
        self.void_kinds[KINDS[type(record)]] += 1
        self.voids[why.value] += 1
        if why in (Void.UNCLAIMED_EPOCH, Void.EARLY_CLAIM):
            self._unclaimed(offset, record)
        elif why is Void.AHEAD:
            self._ahead(offset, record)
        if self.gap is None:
            self._recent_voids.append(VoidRecord(offset, record, why))

    def _unclaimed(self, offset: int, record: Record[Any]) -> None:
        """Who writes in an epoch has read its claim accepted; who claims has read the last."""
        text = f"the {describe(record)} follows epoch {self.epoch}{_listed(self._recent_voids)}"
        self._findings.add(Rule.EPOCH_CLAIMED, self._topic, offset, text)

    def _ahead(self, offset: int, record: Record[Any]) -> None:
        assert isinstance(record, Entry | Heartbeat)
        if self.gap is None:
            digest = record.digest_before if isinstance(record, Entry) else ""
            suspects = tuple(v for v in self._recent_voids if self._fits(v.record))
            self.gap = Gap(offset, self.next_seq, record.seq, digest, suspects)
            if type(record) is Heartbeat:
                self.confirm_gap("a heartbeat is written when everything before it is read back")

    def _fits(self, record: Record[Any]) -> bool:
        """Whether the void record may be the missing entry."""
        return isinstance(record, UnknownRecord) or (
            isinstance(record, Entry) and record.seq == self.next_seq
        )

    def confirm_gap(self, proof: str) -> None:
        """The gap is damage, not a lost append; told once."""
        gap = self.gap
        if gap is None or self._findings[Rule.SEQ_DENSE]:
            return
        missing_entry = self._culprit(gap)
        missing = f"the entries of seq {gap.next_seq} to {gap.got - 1} are missing before offset "
        text = (
            f"{missing}{gap.offset} ({proof}){_listed(gap.suspects)}"
            if missing_entry is None
            else f"this record, void since {missing_entry.why.value}, is the entry of seq "
            f"{gap.next_seq} that offset {gap.offset} follows ({proof})"
        )
        offset = gap.offset if missing_entry is None else missing_entry.offset
        self._findings.add(Rule.SEQ_DENSE, self._topic, offset, text)

    def _culprit(self, gap: Gap) -> VoidRecord | None:
        """The missing entry among the voids: proven by the hash, or the only unreadable one."""
        for void in gap.suspects:
            if isinstance(void.record, Entry) and self._was_accepted(void.record, gap):
                return void
        foreign = [void for void in gap.suspects if void.why is Void.FOREIGN]
        return foreign[0] if len(foreign) == 1 else None

    def _was_accepted(self, entry: Entry[Any], gap: Gap) -> bool:
        """With the right epoch its hash is what the next entry builds on, or it fits the gap."""
        if gap.digest:
            mended = msgspec.structs.replace(entry, epoch=self.epoch)
            return chained(self.digest, self._codec.encode(mended)) == gap.digest
        fits = entry.seq + len(entry.batch) == gap.got
        return fits and entry.digest_before == self.digest


def describe(record: Record[Any]) -> str:
    """A few words."""
    kind = KINDS[type(record)]
    if isinstance(record, UnknownRecord):
        return f"{kind} record ({record.error})"
    return f"{kind} of epoch {record.epoch}"


def _listed(voids: deque[VoidRecord] | tuple[VoidRecord, ...]) -> str:
    told = ", ".join(f"@{v.offset} {describe(v.record)}: {v.why.value}" for v in voids)
    return f"; void before it: {told}" if told else ""
