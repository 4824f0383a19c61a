"""The trace of one command, built from its records."""

from __future__ import annotations

import msgspec
import pytest

from postjournal.cli.trace.accepted_entries import (
    AcceptedEntry,
    RecordPosition,
    accepted_entries,
)
from postjournal.cli.trace.builder import (
    PublishedOutput,
    SourceRecord,
    build_trace,
    trace_id_of,
)
from tests.support.audited_shard import ShardRecords, eventful

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def rows(tape: ShardRecords, start: int = 0) -> list[tuple[RecordPosition, bytes]]:
    values = list(enumerate(tape.journal))[start:]
    return [
        (RecordPosition("ledger.journal", 0, offset, 1_000 + offset), value)
        for offset, value in values
    ]


def offsets(tape: ShardRecords, start: int = 0) -> list[int]:
    found = accepted_entries(rows(tape, start), from_start=start == 0)
    return [accepted.position.offset for accepted in found]


def test_a_partial_fold_from_any_offset_finds_the_entries_that_a_whole_fold_accepts() -> None:
    tape = eventful()
    every = offsets(tape)
    last_claim = tape.offsets("claim")[-1]
    assert len(every) == 6  # and a void one of a deposed leader
    for start in range(1, len(tape.journal)):
        found = offsets(tape, start)
        assert found == every[len(every) - len(found) :]
        if start > last_claim:
            assert found == [offset for offset in every if offset >= start]


def test_an_entry_of_a_deposed_leader_decides_nothing() -> None:
    tape = eventful()
    assert not set(offsets(tape)) & {tape.offsets("claim")[-1] + 1}  # the void entry


def entry_of(tape: ShardRecords, topic: str, offset: int) -> AcceptedEntry:
    found = accepted_entries(rows(tape), from_start=True)
    return next(accepted for accepted in found if accepted.entry.sources.get(topic, 0) > offset)


def source(topic: str, offset: int, command_id: str, parent: str | None = None) -> SourceRecord:
    return SourceRecord(RecordPosition(topic, 0, offset, 990), command_id, parent)


def test_a_trace_goes_from_source_to_journal_to_sink() -> None:
    accepted = entry_of(eventful(), "ledger.commands", 0)
    output = PublishedOutput(
        "results", RecordPosition("ledger.results", 0, 0, 1_009), {"seq": 0}, copies=2
    )
    trace = build_trace(source("ledger.commands", 0, "open-a", TRACE), accepted, [output])
    assert [(step.kind, step.after_ms) for step in trace.steps] == [
        ("source", 0),
        ("journal", accepted.position.time_ms - 990),
        ("sink", 1_009 - accepted.position.time_ms),
    ]
    assert (trace.outcome, trace.total_ms, trace.repeats) == ("accepted", 19, 1)
    assert trace.trace_id == trace_id_of(TRACE) == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert msgspec.json.decode(msgspec.json.encode(trace))["steps"][1]["told"]["seq"] == 0


@pytest.mark.parametrize(
    ("topic", "offset", "command_id", "outcome", "reason"),
    [
        ("ledger.feed", 0, "d1", "accepted", None),
        ("ledger.feed", 1, "ledger.feed/0@1", "rejected", "invalid"),
        ("ledger.feed", 4, "d3", "rejected", "unknown_account"),
        ("ledger.feed", 5, "d1", "replayed", None),
    ],
)
def test_a_trace_has_the_outcome_and_its_reason(
    topic: str, offset: int, command_id: str, outcome: str, reason: str | None
) -> None:
    trace = build_trace(source(topic, offset, command_id), entry_of(eventful(), topic, offset), [])
    assert (trace.outcome, trace.reason) == (outcome, reason)


def test_of_a_command_twice_in_one_entry_each_occurrence_has_its_own_outcome() -> None:
    tape = eventful()
    first, again = (
        build_trace(source("ledger.feed", at, "m1"), entry_of(tape, "ledger.feed", at), [])
        for at in (7, 11)
    )
    assert (first.outcome, again.outcome) == ("accepted", "replayed")


def test_a_command_that_no_entry_covers_is_waiting() -> None:
    trace = build_trace(source("ledger.commands", 99, "x"), None, [])
    assert (trace.outcome, len(trace.steps), trace.total_ms) == ("waiting", 1, 0)
