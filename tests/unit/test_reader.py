"""A reader's state at a bound is the state that the shard had there."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest

from postjournal.core import messages as m
from postjournal.core.errors import ConfigurationError
from postjournal.core.limits import Limits
from postjournal.core.reader import Bound, Reader
from postjournal.core.roles import Identity, Role
from postjournal.core.sharding import ShardPlace
from postjournal.history.bounds import parse_bound
from postjournal.ledger import Ledger
from tests.support.snapshots import WINDOW, Journal, busy_journal, restore, stored

PLACE = ShardPlace(0, 1)


@pytest.fixture(scope="module")
def journal() -> Journal:
    return busy_journal()


def make_reader(bound: Bound | None = None) -> Reader[Any, Any, Any]:
    identity = Identity("r", "r-1", "host:1", PLACE)
    return Reader(identity, Ledger(), Limits(dedupe_window=WINDOW), bound)


def read(journal: Journal, bound: Bound | None = None, snapshot: int = 0) -> Reader[Any, Any, Any]:
    """A reader after the whole journal; `snapshot`: starts with one of that many records."""
    reader = make_reader(bound)
    reader.start(0, 0)
    image = restore(*stored(journal.fold(end=snapshot))) if snapshot else None
    reader.step(m.Restored(image), 0, 0)
    reader.step(m.JournalEnd(len(journal.values)), 0, 0)
    rest = list(enumerate(journal.values))[snapshot:]
    for start in range(0, len(rest), 7):
        reader.step(m.JournalRecords(rest[start : start + 7]), 0, 0)
    return reader


def independent(
    journal: Journal, seq: int | None = None, time: int | None = None
) -> dict[str, int]:
    """The balances according to the journal's JSON, without the engine."""
    balances: dict[str, int] = {}
    count = 0
    for value in journal.values:
        record = msgspec.json.decode(value)
        if record["kind"] == "entry" and time is not None and record["time"] > time:
            break
        for item in record.get("batch", ()):
            if seq is not None and count == seq:
                return balances
            count += 1
            for event in item.get("events", ()):
                kind = event["type"]
                if kind == "transferred":
                    balances[event["from"]] = event["from_balance"]
                    balances[event["to"]] = event["to_balance"]
                else:
                    balances[event["account"]] = event.get("balance", 0)
    return balances


def test_the_state_at_any_of_100_past_seqs_is_what_an_independent_fold_gives(
    journal: Journal,
) -> None:
    last, rng = journal.fold().journal.next_seq, Random(5)
    for _ in range(100):
        seq = rng.randint(-1, last - 1)
        reader = read(journal, Bound(seq=seq))
        assert reader.machine.state == independent(journal, seq + 1)
        assert reader.journal.next_seq == seq + 1
        assert reader.is_at_bound
        assert reader.role is Role.READER


def test_a_snapshot_before_the_bound_gives_the_same_state(journal: Journal) -> None:
    last, rng = journal.fold().journal.next_seq, Random(6)
    for _ in range(50):
        seq = rng.randint(0, last - 1)
        for end in (1, 10, 30):
            manifest, _ = stored(journal.fold(end=end))
            if Bound(seq=seq).fits(manifest):
                reader = read(journal, Bound(seq=seq), snapshot=end)
                assert reader.machine.state == independent(journal, seq + 1)


def test_an_offset_is_inclusive(journal: Journal) -> None:
    for offset in range(len(journal.values)):
        reader = read(journal, Bound(offset=offset))
        assert reader.position == offset + 1
        assert reader.machine.state == journal.fold(end=offset + 1).machine.state


def test_a_time_includes_all_entries_that_are_not_later(journal: Journal) -> None:
    for time in range(999, 1_050, 3):
        assert read(journal, Bound(time=time)).machine.state == independent(journal, time=time)


def test_times_that_run_backwards_are_noticed() -> None:
    """The clock of the second leader was 400 ms behind."""
    journal = Journal()
    for number, time in enumerate((1_000, 1_500, 1_100, 1_600, 1_550)):
        command = {"type": "open", "id": f"{number}", "account": f"a{number}"}
        journal.entry(command, time=time)
    reader = read(journal, Bound(time=1_500))
    assert (reader.journal.next_seq, reader.set_back_ms) == (3, 400)
    assert read(journal, Bound(time=1_000)).set_back_ms == 0


def test_void_entries_do_not_count_for_a_time(journal: Journal) -> None:
    forged = msgspec.json.decode(journal.values[5]) | {"digest_before": "forged", "time": 1}
    values = [*journal.values[:5], msgspec.json.encode(forged), *journal.values[5:]]
    with_void = Journal()
    with_void.values = values
    reader = read(with_void, Bound(time=1_020))
    assert reader.machine.state == independent(journal, time=1_020)


def test_a_reader_without_a_bound_follows_the_journal(journal: Journal) -> None:
    reader = read(journal)
    assert (reader.role, reader.is_at_bound) == (Role.READER, False)
    assert reader.machine.state == journal.fold().machine.state


def test_a_reader_stops_at_its_bound(journal: Journal) -> None:
    reader = read(journal, Bound(seq=2))
    before = dict(reader.machine.state)
    reader.step(m.JournalRecords(list(enumerate(journal.values))[10:]), 0, 0)
    assert reader.machine.state == before


def test_a_reader_never_claims_and_never_appends(journal: Journal) -> None:
    reader = read(journal)
    effects = [effect for n in range(50) for effect in reader.step(m.Tick(), n * 1_000, 0)]
    effects += reader.step(m.TripwireFired(1), 10**6, 0)
    effects += reader.step(m.HandoverRequested("r"), 10**6, 0)
    assert effects == []


def test_a_reader_answers_only_reads_that_need_no_leader(journal: Journal) -> None:
    reader = read(journal, Bound(seq=2))
    (answer,) = reader.step(m.QueryRequested(1, {"account": "a"}, linearizable=False), 0, 0)
    assert isinstance(answer, m.Reply)
    assert (answer.result, answer.seq) == (msgspec.Raw(b'{"account":"a","balance":100}'), 2)
    (refusal,) = reader.step(m.QueryRequested(2, {"account": "a"}, linearizable=True), 0, 0)
    assert isinstance(refusal, m.Reply)
    assert refusal.error == "not_leader"


def test_a_reader_that_has_not_caught_up_does_not_answer() -> None:
    reader = make_reader()
    reader.start(0, 0)
    (refusal,) = reader.step(m.QueryRequested(1, {}, linearizable=False), 0, 0)
    assert isinstance(refusal, m.Reply)
    assert refusal.error == "not_ready"


def test_a_reader_waits_for_the_requested_state(journal: Journal) -> None:
    half, end = len(journal.values) // 2, len(journal.values)
    reader = make_reader()
    reader.start(0, 0)
    reader.step(m.Restored(None), 0, 0)
    reader.step(m.JournalEnd(half), 0, 0)
    reader.step(m.JournalRecords(list(enumerate(journal.values[:half]))), 0, 0)
    seq = reader.journal.next_seq
    query = m.QueryRequested(1, {"account": "a"}, False, min_seq=seq, timeout_ms=100)
    assert reader.step(query, 0, 0) == []
    effects = reader.step(m.JournalRecords(list(enumerate(journal.values))[half:end]), 50, 50)
    (answer,) = [effect for effect in effects if isinstance(effect, m.Reply)]
    assert (answer.error, answer.seq >= seq) == (None, True)
    reader.step(m.QueryRequested(2, {}, False, min_seq=10**6, timeout_ms=100), 50, 50)
    (refusal,) = reader.step(m.Tick(), 150, 150)
    assert isinstance(refusal, m.Reply)
    assert refusal.error == "behind"


def test_a_reader_takes_no_snapshots(journal: Journal) -> None:
    reader = read(journal)
    (refusal,) = reader.step(m.SnapshotRequested("r", "s", 1), 0, 0)
    assert isinstance(refusal, m.SnapshotProgressed)
    assert refusal.state == "failed"


def test_a_reader_whose_journal_is_trimmed_rebuilds(journal: Journal) -> None:
    effects = read(journal).step(m.JournalTrimmed(), 0, 0)
    assert any(isinstance(effect, m.Rebuild) for effect in effects)


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("offset:7", Bound(offset=7)),
        ("seq:0", Bound(seq=0)),
        ("time:1700000000000", Bound(time=1_700_000_000_000)),
        ("time:2023-11-14T22:13:20Z", Bound(time=1_700_000_000_000)),
        ("time:2023-11-14T22:13:20", Bound(time=1_700_000_000_000)),
        ("time:2023-11-14T23:13:20+01:00", Bound(time=1_700_000_000_000)),
    ],
)
def test_a_bound_is_an_offset_a_seq_or_a_time(text: str, bound: Bound) -> None:
    assert parse_bound(text) == bound


LONG = "1" * 5_000


@pytest.mark.parametrize(
    "text",
    [
        *("", "7", "offset:-1", "seq:x", "time:yesterday", "epoch:3"),
        *(f"offset:{LONG}", f"seq:{LONG}", f"time:{LONG}"),
    ],
)
def test_an_invalid_bound_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="offset:N, seq:N or time:"):
        parse_bound(text)
