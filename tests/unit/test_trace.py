"""The story of one command out of its records."""

from __future__ import annotations

import msgspec
import pytest

from postjournal.cli.trace.builder import (
    Emitted,
    Source,
    tell,
    trace_id_of,
)
from postjournal.cli.trace.walk import Counted, Place, accepted
from tests.support.audited_shard import ShardRecords, eventful

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def rows(tape: ShardRecords, start: int = 0) -> list[tuple[Place, bytes]]:
    values = list(enumerate(tape.journal))[start:]
    return [(Place("ledger.journal", 0, offset, 1_000 + offset), value) for offset, value in values]


def offsets(tape: ShardRecords, start: int = 0) -> list[int]:
    found = accepted(rows(tape, start), from_start=start == 0)
    return [counted.place.offset for counted in found]


def test_a_walk_from_anywhere_finds_the_entries_that_a_whole_fold_accepts() -> None:
    tape = eventful()
    every = offsets(tape)
    last_claim = tape.offsets("claim")[-1]
    assert len(every) == 6  # and a void one of a zombie
    for start in range(1, len(tape.journal)):
        found = offsets(tape, start)
        assert found == every[len(every) - len(found) :]
        if start > last_claim:
            assert found == [offset for offset in every if offset >= start]


def test_an_entry_of_a_deposed_leader_is_not_what_decided_the_command() -> None:
    tape = eventful()
    assert not set(offsets(tape)) & {tape.offsets("claim")[-1] + 1}  # the zombie's


def entry_of(tape: ShardRecords, topic: str, offset: int) -> Counted:
    walk = accepted(rows(tape), from_start=True)
    return next(each for each in walk if each.entry.sources.get(topic, 0) > offset)


def source(topic: str, offset: int, command_id: str, parent: str | None = None) -> Source:
    return Source(Place(topic, 0, offset, 990), command_id, parent)


def test_the_story_goes_from_source_to_journal_to_sink() -> None:
    counted = entry_of(eventful(), "ledger.commands", 0)
    output = Emitted("results", Place("ledger.results", 0, 0, 1_009), {"seq": 0}, copies=2)
    story = tell(source("ledger.commands", 0, "open-a", TRACE), counted, [output])
    assert [(step.kind, step.after_ms) for step in story.steps] == [
        ("source", 0),
        ("journal", counted.place.time_ms - 990),
        ("sink", 1_009 - counted.place.time_ms),
    ]
    assert (story.outcome, story.total_ms, story.repeats) == ("accepted", 19, 1)
    assert story.trace_id == trace_id_of(TRACE) == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert msgspec.json.decode(msgspec.json.encode(story))["steps"][1]["told"]["seq"] == 0


@pytest.mark.parametrize(
    ("topic", "offset", "command_id", "outcome", "reason"),
    [
        ("ledger.feed", 0, "d1", "accepted", None),
        ("ledger.feed", 1, "ledger.feed/0@1", "rejected", "invalid"),
        ("ledger.feed", 4, "d3", "rejected", "unknown_account"),
        ("ledger.feed", 5, "d1", "replayed", None),
    ],
)
def test_outcomes_are_told(
    topic: str, offset: int, command_id: str, outcome: str, reason: str | None
) -> None:
    story = tell(source(topic, offset, command_id), entry_of(eventful(), topic, offset), [])
    assert (story.outcome, story.reason) == (outcome, reason)


def test_of_a_command_twice_in_one_entry_each_occurrence_has_its_own_outcome() -> None:
    tape = eventful()
    first, again = (
        tell(source("ledger.feed", at, "m1"), entry_of(tape, "ledger.feed", at), [])
        for at in (7, 11)
    )
    assert (first.outcome, again.outcome) == ("accepted", "replayed")


def test_a_command_that_no_entry_covers_is_waiting() -> None:
    story = tell(source("ledger.commands", 99, "x"), None, [])
    assert (story.outcome, len(story.steps), story.total_ms) == ("waiting", 1, 0)
