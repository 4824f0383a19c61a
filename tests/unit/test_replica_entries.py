"""How large an entry may become, and when a leader is behind."""

from __future__ import annotations

import msgspec

from postjournal.core import messages as m
from postjournal.core.records import Entry, SourceRecord
from tests.support.stepped_replica import CODEC, FEED, depose, leader, opened


def test_what_an_entry_has_no_room_for_is_decided_next() -> None:
    """In order, nothing left out, whatever the source: dead letters of control characters here."""
    bench = leader()
    rows: list[SourceRecord] = [(n, b"main", b"\x00" * 1_000) for n in range(900)]
    other: list[SourceRecord] = [(n, b"main", msgspec.json.encode(opened(n))) for n in range(50)]
    bench.step(m.SourceRecords(FEED, bench.now, rows[:400]))
    entries = bench.of(m.Append)
    bench.step(m.SourceRecords("ledger.commands", bench.now, other))
    entries += bench.of(m.Append)
    bench.step(m.SourceRecords(FEED, bench.now, rows[400:]))
    entries += bench.of(m.Append)
    landed = 0
    while landed < len(entries):
        bench.land(entries[landed].value)
        landed += 1
        entries += bench.of(m.Append)
    decided = [CODEC.decode(each.value) for each in entries]
    batches = [each for each in decided if isinstance(each, Entry)]
    ids = [outcome.id for entry in batches for outcome in entry.batch]
    wanted = [f"{FEED}/0@{n}" for n in range(900)]
    assert [each for each in ids if each.startswith(FEED)] == wanted
    assert [each for each in ids if not each.startswith(FEED)] == [f"id-{n}" for n in range(50)]
    assert batches[-1].sources == {FEED: 900, "ledger.commands": 50}
    assert len(batches) > 3
    assert all(len(entry.batch) < 400 for entry in batches)
    assert bench.replica.journal.next_seq == 950


def test_a_leader_is_behind_while_commands_for_a_further_entry_wait() -> None:
    bench = leader()
    bench.feed(opened(0))
    assert not bench.replica.is_behind
    limits = bench.limits
    enough = limits.batch_commands * limits.pipeline_entries + limits.pipeline_commands
    bench.feed(*(opened(n) for n in range(1, enough + 1)), offset=1)
    while bench.replica.is_busy:
        bench.tick(0)
    assert bench.replica.is_behind
    depose(bench)
    assert not bench.replica.is_behind
