"""The rules of the fold; docs/protocol.md has them all."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import msgspec
import pytest

from postjournal.core.fold import JournalState, Verdict, next_digest
from postjournal.core.records import (
    FORMAT,
    GENESIS_DIGEST,
    Claim,
    Codec,
    Entry,
    Heartbeat,
    Outcome,
    Record,
    Resign,
    UnknownRecord,
)
from postjournal.ledger import Ledger

ACCEPTED, VOID, ALARM = Verdict.ACCEPTED, Verdict.VOID, Verdict.DIGEST_MISMATCH
VALUE = b"the bytes as stored"


def claim(epoch: int = 1, who: str = "a", seen: int = -1) -> Claim:
    return Claim(epoch=epoch, replica=who, incarnation=f"{who}-1", address=f"{who}:7071", seen=seen)


def entry(epoch: int = 1, seq: int = 0, commands: int = 1, **fields: Any) -> Entry[Any]:
    batch = tuple(Outcome[Any](f"c{seq + n}", rejected="invalid") for n in range(commands))
    rest: dict[str, Any] = {
        "sources": {"commands": seq + commands},
        "sinks": {"results": seq + commands},
        "published": {},
        "time": 0,
        "digest_before": GENESIS_DIGEST,
    }
    return Entry(epoch=epoch, seq=seq, batch=batch, **(rest | fields))


def heartbeat(epoch: int = 1, seq: int = 0, **published: int) -> Heartbeat:
    return Heartbeat(epoch, seq, published, 0)


class Journal:
    """A state and the offset of the next record."""

    def __init__(self, *records: Record[Any]) -> None:
        self.state, self.end = JournalState(), 0
        for record in records:
            assert self.add(record) is ACCEPTED, record

    def add(self, record: Record[Any], value: bytes = VALUE) -> Verdict:
        verdict = self.state.fold(self.end, record, value)
        self.end += 1
        return verdict

    def __getattr__(self, name: str) -> Any:
        return getattr(self.state, name)


# --- the beginning -----------------------------------------------------------------------------


def test_epoch_0_has_no_leader() -> None:
    state = JournalState()
    assert (state.epoch, state.leader, state.alive_at, state.next_seq) == (0, None, -1, 0)
    assert (state.resigned, state.digest, state.published) == (False, "0" * 32, {})


@pytest.mark.parametrize("record", [entry(epoch=0), heartbeat(epoch=0), Resign(0)])
def test_epoch_0_accepts_only_a_claim(record: Record[Any]) -> None:
    journal = Journal()
    assert journal.add(record) is VOID
    assert journal.state == JournalState()


def test_the_first_claim_need_not_have_seen_a_record() -> None:
    journal = Journal(claim(seen=-1))
    assert (journal.epoch, journal.leader, journal.alive_at) == (1, "a-1", 0)


# --- claims ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epoch", "seen", "verdict"),
    [
        (0, 9, VOID),
        (1, 9, VOID),
        (2, 0, VOID),  # has not read the heartbeat at 1
        (2, 1, ACCEPTED),  # has read it
        (2, 9, ACCEPTED),  # has read more
        (3, 9, VOID),
    ],
)
def test_a_claim_needs_the_next_epoch_and_every_sign_of_life_seen(
    epoch: int, seen: int, verdict: Verdict
) -> None:
    journal = Journal(claim(), heartbeat())
    assert journal.add(claim(epoch, "b", seen)) is verdict


def test_a_claim_after_a_void_record_need_not_have_seen_it() -> None:
    journal = Journal(claim())
    assert journal.add(heartbeat(epoch=7)) is VOID
    assert journal.add(claim(2, "b", seen=0)) is ACCEPTED


def test_of_two_claims_for_one_epoch_the_first_wins() -> None:
    journal = Journal(claim())
    assert journal.add(claim(2, "b", seen=0)) is ACCEPTED
    assert journal.add(claim(2, "c", seen=0)) is VOID
    assert journal.leader == "b-1"


def test_a_new_leaders_claim_is_its_first_sign_of_life() -> None:
    journal = Journal(claim(), claim(2, "b", seen=0))
    assert journal.alive_at == 1
    assert journal.add(claim(3, "c", seen=0)) is VOID
    assert journal.add(claim(3, "c", seen=1)) is ACCEPTED


def test_a_claim_ends_a_resignation_and_keeps_the_rest() -> None:
    journal = Journal(claim(), entry(), Resign(1, "b"))
    digest = journal.digest
    assert journal.add(claim(2, "b", seen=2)) is ACCEPTED
    assert (journal.resigned, journal.successor) == (False, None)
    assert (journal.next_seq, journal.digest) == (1, digest)


def test_a_leader_is_an_incarnation_never_a_name() -> None:
    journal = Journal(claim(), Claim(2, "a", "a-2", "a:7071", 0))
    assert journal.leader == "a-2"


# --- entries -----------------------------------------------------------------------------------


def test_an_accepted_entry_moves_seq_digest_and_life() -> None:
    journal = Journal(claim(), entry(commands=3))
    right = blake2b(GENESIS_DIGEST.encode() + VALUE, digest_size=16).hexdigest()
    assert (journal.next_seq, journal.digest, journal.alive_at) == (3, right, 1)


def test_the_digest_is_over_the_bytes_as_stored() -> None:
    one, other = Journal(claim()), Journal(claim())
    one.add(entry(), b"{}")
    other.add(entry(), b"{ }")
    assert one.digest != other.digest
    assert one.digest == next_digest(GENESIS_DIGEST, b"{}")


@pytest.mark.parametrize(
    "record",
    [
        entry(epoch=0),
        entry(epoch=2),
        entry(seq=1),
        entry(seq=-1),
        entry(commands=0),
        entry(seq=1, digest_before="f" * 32),
        entry(epoch=2, digest_before="f" * 32),
    ],
)
def test_an_entry_of_another_epoch_or_seq_or_of_nothing_is_void(record: Entry[Any]) -> None:
    journal = Journal(claim())
    before = journal.state.epoch, journal.alive_at, journal.next_seq, journal.digest
    assert journal.add(record) is VOID
    assert (journal.epoch, journal.alive_at, journal.next_seq, journal.digest) == before


def test_an_entry_with_only_a_wrong_digest_is_void_and_an_alarm() -> None:
    journal = Journal(claim())
    assert journal.add(entry(digest_before="f" * 32)) is ALARM
    assert (journal.next_seq, journal.alive_at, journal.digest) == (0, 0, GENESIS_DIGEST)


def test_an_entry_that_was_appended_twice_counts_once() -> None:
    journal = Journal(claim(), entry())
    assert journal.add(entry()) is VOID
    assert journal.next_seq == 1


def test_a_late_entry_of_a_deposed_leader_is_void() -> None:
    journal = Journal(claim(), claim(2, "b", seen=0))
    assert journal.add(entry(epoch=1)) is VOID
    assert journal.add(entry(epoch=2)) is ACCEPTED


def test_seq_and_digest_continue_over_a_change_of_leader() -> None:
    journal = Journal(claim(), entry(commands=2), claim(2, "b", seen=1))
    after = entry(epoch=2, seq=2, digest_before=journal.digest)
    assert journal.add(after) is ACCEPTED
    assert journal.next_seq == 3


# --- heartbeats --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "verdict"),
    [
        (heartbeat(1, 1), ACCEPTED),
        (heartbeat(1, 0), VOID),
        (heartbeat(1, 2), VOID),  # an entry before it was never appended
        (heartbeat(0, 1), VOID),
        (heartbeat(2, 1), VOID),
    ],
)
def test_a_heartbeat_needs_epoch_and_seq(record: Heartbeat, verdict: Verdict) -> None:
    journal = Journal(claim(), entry())
    assert journal.add(record) is verdict
    assert journal.alive_at == (2 if verdict is ACCEPTED else 1)
    assert journal.next_seq == 1


# --- resignation -------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [entry(seq=1), heartbeat(seq=1)])
def test_records_of_a_leader_after_its_resignation_are_void(record: Record[Any]) -> None:
    journal = Journal(claim(), entry(), Resign(1))
    if isinstance(record, Entry):
        record = entry(seq=1, digest_before=journal.digest)
    assert journal.add(record) is VOID
    assert (journal.alive_at, journal.next_seq) == (2, 1)


@pytest.mark.parametrize(("epoch", "verdict"), [(0, VOID), (1, ACCEPTED), (2, VOID)])
def test_a_resignation_needs_the_current_epoch(epoch: int, verdict: Verdict) -> None:
    journal = Journal(claim())
    assert journal.add(Resign(epoch, "b")) is verdict
    assert journal.resigned is (verdict is ACCEPTED)


def test_a_claim_must_have_seen_the_resignation_as_well() -> None:
    journal = Journal(claim(), Resign(1, "b"))
    assert journal.successor == "b"
    assert journal.add(claim(2, "b", seen=0)) is VOID
    assert journal.add(claim(2, "b", seen=1)) is ACCEPTED


# --- marks, and the rest -----------------------------------------------------------------------


def test_marks_come_from_accepted_entries_and_heartbeats_and_only_rise() -> None:
    journal = Journal(claim(), heartbeat(results=4), entry(published={"results": 6, "other": 1}))
    assert journal.published == {"results": 6, "other": 1}
    assert journal.add(claim(2, "b", seen=2)) is ACCEPTED
    assert journal.add(heartbeat(2, 1, results=5)) is ACCEPTED
    assert journal.published == {"results": 6, "other": 1}


def test_marks_of_void_records_do_not_count() -> None:
    journal = Journal(claim())
    assert journal.add(heartbeat(5, 0, results=9)) is VOID
    assert journal.add(entry(seq=3, published={"results": 9})) is VOID
    assert journal.add(entry(digest_before="f" * 32, published={"results": 9})) is ALARM
    assert journal.published == {}


def test_a_record_of_an_unknown_kind_is_void_and_changes_nothing() -> None:
    journal = Journal(claim(), entry())
    before = (journal.epoch, journal.alive_at, journal.next_seq, journal.digest)
    assert journal.add(UnknownRecord("not JSON")) is VOID
    assert (journal.epoch, journal.alive_at, journal.next_seq, journal.digest) == before


# --- newer releases ----------------------------------------------------------------------------

UNSUPPORTED = Verdict.UNSUPPORTED


def of_another_application(journal: Journal, **changes: Any) -> UnknownRecord:
    """An entry with an event that this version of the application does not know."""
    fields: dict[str, Any] = {
        "kind": "entry",
        "epoch": journal.epoch,
        "seq": journal.next_seq,
        "batch": [{"id": "x", "type": "freeze", "events": [{"type": "frozen", "account": "a"}]}],
        "sources": {},
        "sinks": {},
        "published": {},
        "time": 0,
        "digest_before": journal.digest,
    }
    record: Record[Any] = Codec[Any](Ledger.event_type).decode(
        msgspec.json.encode(fields | changes)
    )
    assert isinstance(record, UnknownRecord)
    return record


def test_a_valid_entry_that_cannot_be_read_is_not_void() -> None:
    journal = Journal(claim(), entry())
    assert journal.add(of_another_application(journal)) is UNSUPPORTED


@pytest.mark.parametrize(
    "changes",
    [{"epoch": 0}, {"epoch": 2}, {"seq": 0}, {"seq": 9}, {"digest_before": "f" * 32}],
)
def test_an_invalid_entry_is_void_even_if_it_cannot_be_read(changes: dict[str, Any]) -> None:
    journal = Journal(claim(), entry())
    assert journal.add(of_another_application(journal, **changes)) is VOID


@pytest.mark.parametrize("changes", [{"batch": None}, {"time": None}, {"sources": []}])
def test_a_record_that_no_release_accepts_as_an_entry_is_void(changes: dict[str, Any]) -> None:
    journal = Journal(claim(), entry())
    assert journal.add(of_another_application(journal, **changes)) is VOID


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [({}, UNSUPPORTED), ({"format": FORMAT}, VOID), ({"epoch": 0}, VOID), ({"seq": 5}, VOID)],
)
def test_a_newer_format_stops_a_release_that_does_not_support_it(
    changes: dict[str, Any], verdict: Verdict
) -> None:
    journal = Journal(claim(), entry())
    fields = {"kind": "format", "epoch": 1, "seq": 1, "format": FORMAT + 1}
    record: Record[Any] = Codec[Any](Ledger.event_type).decode(
        msgspec.json.encode(fields | changes)
    )
    before = (journal.alive_at, journal.next_seq, journal.digest)
    assert journal.add(record) is verdict
    assert (journal.alive_at, journal.next_seq, journal.digest) == before
