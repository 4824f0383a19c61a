"""The maximum size of an entry, and when a leader is behind."""

from __future__ import annotations

import msgspec

from postjournal.core import messages as m
from postjournal.core.records import Entry, SourceRecord
from tests.support.stepped_replica import CODEC, FEED, depose, leader, opened


def test_commands_that_do_not_fit_into_an_entry_are_in_the_next() -> None:
    """In order and without loss, from every source; these dead letters are very large."""
    replica = leader()
    rows: list[SourceRecord] = [(n, b"main", b"\x00" * 1_000) for n in range(900)]
    other: list[SourceRecord] = [(n, b"main", msgspec.json.encode(opened(n))) for n in range(50)]
    replica.step(m.SourceRecords(FEED, replica.now, rows[:400]))
    entries = replica.of(m.Append)
    replica.step(m.SourceRecords("ledger.commands", replica.now, other))
    entries += replica.of(m.Append)
    replica.step(m.SourceRecords(FEED, replica.now, rows[400:]))
    entries += replica.of(m.Append)
    delivered = 0
    while delivered < len(entries):
        replica.deliver(entries[delivered].value)
        delivered += 1
        entries += replica.of(m.Append)
    records = [CODEC.decode(append.value) for append in entries]
    decided = [record for record in records if isinstance(record, Entry)]
    ids = [outcome.id for entry in decided for outcome in entry.batch]
    expected = [f"{FEED}/0@{n}" for n in range(900)]
    assert [name for name in ids if name.startswith(FEED)] == expected
    assert [name for name in ids if not name.startswith(FEED)] == [f"id-{n}" for n in range(50)]
    assert decided[-1].sources == {FEED: 900, "ledger.commands": 50}
    assert len(decided) > 3
    assert all(len(entry.batch) < 400 for entry in decided)
    assert replica.core.journal.next_seq == 950


def test_a_leader_is_behind_while_commands_wait_for_another_entry() -> None:
    replica = leader()
    replica.feed(opened(0))
    assert not replica.core.is_behind
    limits = replica.limits
    enough = limits.batch_commands * limits.pipeline_entries + limits.pipeline_commands
    replica.feed(*(opened(n) for n in range(1, enough + 1)), offset=1)
    while replica.core.is_busy:
        replica.tick(0)
    assert replica.core.is_behind
    depose(replica)
    assert not replica.core.is_behind
