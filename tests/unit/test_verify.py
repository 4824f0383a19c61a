"""The auditor accepts sound journals, and names the record of every kind of damage."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import msgspec
import pytest

from postjournal.core.application import Command, Context, Output
from postjournal.core.records import DeadLetter, Outcome
from postjournal.core.sharding import ShardPlace, shard_of
from postjournal.ledger import Ledger
from postjournal.verify.journal import VoidReason
from postjournal.verify.replay import Replay
from postjournal.verify.rules import MAX_EXAMPLES, Rule
from postjournal.verify.shard import AuditInput, Sink, audit_shard
from tests.support.audited_shard import (
    WINDOW,
    History,
    ShardRecords,
    audit_input,
    audited,
    broken,
    deposit,
    eventful,
    opened,
    transfer,
)
from tests.support.journal_damage import DAMAGES


def test_a_failed_command_is_not_accepted_where_a_repeat_is_expected() -> None:
    replay: Replay[Any, Any, Any] = Replay(Ledger(), 0, 1, 100)
    repeat: Outcome[Any] = Outcome("a", replayed=True)
    letter = DeadLetter("ledger.feed", 0, "", "")
    for failed in (
        Outcome[Any]("a", "open", rejected="failed"),
        Outcome[Any]("b", "open", rejected="failed", dead_letter=letter),
    ):
        assert not replay.same(failed, repeat)
    assert replay.same(repeat, repeat)


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_found_and_its_record_named(kind: str) -> None:
    records = eventful()
    rule, location = DAMAGES[kind](records)
    assert (rule.value, location) in broken(audited(records))


def test_a_sound_journal_breaks_no_rule() -> None:
    report = audited(eventful())
    assert report.sound
    assert not report.findings
    assert (report.commands, report.rejected, report.repeated) == (50, 12, 2)
    assert report.sinks["results"].repeats == 3
    assert report.replicas == {"r1": 1, "r2": 1}


def test_void_records_are_counted_by_kind_and_reason() -> None:
    report = audited(eventful())
    assert report.void == {"claim": 1, "entry": 1}
    assert report.void_reasons == {VoidReason.LATE_CLAIM.value: 1, VoidReason.PAST_EPOCH.value: 1}


def test_every_finding_is_counted_and_the_first_ones_are_described() -> None:
    history = History()
    history.claim()
    history.entry(("commands", opened(*(f"a{n}" for n in range(MAX_EXAMPLES + 5)))))
    history.publish()
    results = history.records.sinks["results"]
    results[:] = [value.replace(b"accepted", b"rejected") for value in results]
    report = audited(history.records)
    assert report.broken == {Rule.SINK_CONTENT.value: MAX_EXAMPLES + 5}
    assert len(report.findings) == MAX_EXAMPLES


# --- a leader's losses ----------------------------------------------------------------------


def test_an_append_lost_in_the_middle_of_a_pipeline_is_not_damage() -> None:
    history = History()
    history.claim("r1")
    history.entry(("commands", opened("a")))
    lost = history.decided(("commands", [deposit("a", 1, "d1")]))
    history.append(msgspec.structs.replace(lost, seq=lost.seq + 1))
    history.records.sources["commands"].pop()
    after = history.successor()
    after.claim("r2")
    after.entry(("commands", [deposit("a", 1, "d1")]))
    after.publish()
    report = audited(after.records)
    assert report.sound
    assert report.void_reasons == {VoidReason.AHEAD.value: 1}


def three_entries_and_the_second_dropped() -> History:
    history = History()
    history.claim()
    history.entry(("commands", opened("a")))
    history.entry(("commands", [deposit("a", 1, "d1")]))
    history.publish()
    history.entry(("commands", [deposit("a", 1, "d2")]))
    del history.records.journal[2]
    return history


def test_a_gap_is_damage_when_a_mark_behind_it_covers_published_outputs() -> None:
    history = three_entries_and_the_second_dropped()
    for values in history.records.sinks.values():
        values.clear()  # the journal alone must prove it
    assert (Rule.SEQ_DENSE.value, "ledger.journal/0@2") in broken(audited(history.records))


def test_a_gap_is_damage_when_a_heartbeat_follows_it() -> None:
    history = History()
    history.claim()
    history.entry(("commands", opened("a")))
    history.heartbeat()
    del history.records.journal[1]
    assert broken(audited(history.records)) == {(Rule.SEQ_DENSE.value, "ledger.journal/0@1")}


def test_a_gap_is_damage_when_a_replica_has_reported_what_is_missing() -> None:
    history = History()
    history.claim()
    history.entry(("commands", opened("a")))
    history.report("r2")
    history.entry(("commands", opened("b")))
    del history.records.journal[1]
    assert (Rule.SEQ_DENSE.value, "ledger.journal/0@1") in broken(audited(history.records))


def test_a_forged_entry_that_the_next_leader_record_does_not_build_on_is_void() -> None:
    history = History()
    history.claim()
    history.entry(("commands", opened("a")))
    forged = msgspec.structs.replace(
        history.decided(("commands", opened("b"))), digest_before="ab" * 16
    )
    history.append(forged)
    history.records.sources["commands"].pop()
    after = history.successor()
    after.entry(("commands", opened("c")))
    report = audited(after.records)
    assert broken(report) == {(Rule.DIGEST_CHAIN.value, "ledger.journal/0@2")}
    assert report.void_reasons == {VoidReason.DIGEST_MISMATCH.value: 1}


# --- sources ----------------------------------------------------------------------------------


def test_the_same_id_in_two_sources_is_matched_in_any_order_of_the_leader() -> None:
    for first, second in (("commands", "feed"), ("feed", "commands")):
        history = History()
        history.claim()
        history.entry(
            (first, opened("a")),
            (second, [deposit("a", 1, "x"), *opened("b")]),
            (first, [deposit("a", 2, "x"), deposit("a", 3, "y"), deposit("a", 1, "x")]),
        )
        assert audited(history.records).sound


def test_a_wrong_offset_of_a_mixed_entry_is_reported_once() -> None:
    history = History()
    history.claim()
    history.entry(("commands", opened("a", "b")), ("feed", [deposit("a", 1, "x")]))
    history.entry(("commands", [transfer("a", "b", 1, "y")]))
    history.records.change(1, lambda entry: entry["sources"].update({"ledger.feed": 0}))
    report = audited(history.records)
    assert report.broken == {Rule.SOURCE_OFFSETS.value: 1, Rule.DIGEST_CHAIN.value: 1}


def test_commands_whose_source_records_are_deleted_are_applied_and_counted() -> None:
    history = History()
    history.claim()
    history.entry(("commands", opened("a", "b")))
    history.entry(("commands", [deposit("a", 5, "d1")]))
    history.entry(("commands", [deposit("a", 5, "d2")]))
    history.publish()
    found = audit_input(history.records, deleted={"commands": 2})
    report = audit_shard(Ledger(), found, WINDOW)
    assert report.sound
    assert report.unchecked == 2
    assert report.sources["ledger.commands"].decided == 4


def test_undecided_source_records_are_counted() -> None:
    history = History()
    history.claim()
    history.entry(("commands", opened("a")))
    history.records.sources["feed"].append((b"main", b"{}"))
    assert audited(history.records).sources["ledger.feed"].waiting == 1


def test_a_source_that_ends_before_the_journals_offset_is_damage() -> None:
    history = History()
    history.claim()
    history.entry(("commands", opened("a", "b")))
    history.records.sources["commands"].pop()
    assert (Rule.SOURCE_PRESENT.value, "ledger.journal/0@1") in broken(audited(history.records))


def test_a_command_of_another_shard_must_be_rejected() -> None:
    mine = shard_of(b"main", 2)
    for shard, sound in ((mine, True), (1 - mine, False)):
        history = History(place=ShardPlace(mine, 2))
        history.claim()
        history.entry(("commands", opened("a")))
        found = audit_input(history.records, shard=shard, shards=2)
        report = audit_shard(Ledger(), found, WINDOW)
        assert set(report.broken) == (set() if sound else {Rule.DECISION.value})


def test_the_size_of_the_dedupe_window_decides_what_a_repeat_is() -> None:
    history = History(window=2)
    history.claim()
    history.entry(("commands", [*opened("a", "b", "c"), *opened("a")]))
    assert audit_shard(Ledger(), audit_input(history.records), 2).sound
    wrong = audit_shard(Ledger(), audit_input(history.records), 3)
    assert set(wrong.broken) == {Rule.REPEAT.value}


# --- sinks --------------------------------------------------------------------------------------


def test_outputs_published_while_the_audit_starts_are_not_damage() -> None:
    history = History()
    history.claim()
    history.entry(("commands", opened("a")))
    history.entry(("commands", opened("b")))
    history.publish()
    history.records.journal.pop()  # it was appended after the journal's end was fetched
    found = audit_input(history.records)
    assert audit_shard(Ledger(), settled(found, 1), WINDOW).sound
    assert set(audit_shard(Ledger(), found, WINDOW).broken) == {Rule.SINK_EXPLAINED.value}


def settled(found: AuditInput, end: int) -> AuditInput:
    sinks = {name: Sink(sink.partition, end) for name, sink in found.sinks.items()}
    return replace(found, sinks=sinks)


def test_outputs_deleted_by_retention_are_counted() -> None:
    records = eventful()
    report = audit_shard(
        Ledger(), audit_input(records, deleted={"results": 20, "balances": 63}), WINDOW
    )
    assert report.sound
    assert report.sinks["results"].unchecked == 20
    assert report.sinks["balances"].unchecked == 64


def test_a_late_repeat_is_compared_with_the_first_record() -> None:
    history = History()
    history.claim()
    for n in range(30):
        history.entry(("commands", opened(*(f"a{n}-{m}" for m in range(100)))))
    history.publish()
    results = history.records.sinks["results"]
    results += [results[1500], results[3].replace(b"accepted", b"rejected")]
    report = audited(history.records)
    assert broken(report) == {(Rule.SINK_REPEAT.value, "ledger.results/0@3001")}
    assert report.sinks["results"].repeats == 2


# --- the application --------------------------------------------------------------------------


class Speak(Command, tag="speak", frozen=True, kw_only=True):
    word: str


class Word(Output):
    word: str


class Faulty(Ledger):
    """`decide` raises at one word; `evolve` and the sink fail on request."""

    command_type: ClassVar[Any] = Speak
    event_type: ClassVar[Any] = str
    evolve_fails = sink_fails = False

    def decide(self, state: Any, command: Any, context: Context) -> Any:
        if command.word == "boom":
            raise ValueError(command.word)
        return [command.word]

    def evolve(self, state: Any, event: Any) -> None:
        assert not self.evolve_fails

    @property
    def sinks(self) -> Any:
        return {"words": self._words}

    def _words(self, outcome: Outcome[str], context: Context) -> list[Output]:
        assert not self.sink_fails
        return [Word(word=word) for word in outcome.events or ()]


def faulty() -> ShardRecords:
    history = History(Faulty())
    history.claim()
    words = ["hello", "boom", "bye"]
    history.entry(("commands", [{"type": "speak", "id": word, "word": word} for word in words]))
    history.publish()
    return history.records


def test_any_application_is_replayed_and_what_decide_raises_is_a_dead_letter() -> None:
    report = audited(faulty(), Faulty())
    assert report.sound
    assert (report.succeeded, report.rejected) == (2, 1)
    assert report.sinks["deadletter"].present == 1


@pytest.mark.parametrize("fault", ["evolve_fails", "sink_fails"])
def test_an_application_that_fails_ends_the_audit_with_a_finding(fault: str) -> None:
    records, application = faulty(), Faulty()
    setattr(application, fault, True)
    assert (Rule.APPLICATION.value, "ledger.journal/0@1") in broken(audited(records, application))
