"""Kinds of damage, each planted into a tape and told: which rule breaks, at which record."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec

from postjournal.core.fold import JournalState, Verdict, next_digest
from postjournal.core.records import Codec, Entry
from postjournal.verify.rules import Rule
from tests.support.audited_shard import Json, Tape, status

Expected = tuple[Rule, str]
Damage = Callable[[Tape], Expected]

DAMAGES: dict[str, Damage] = {}


def damage(plant: Damage) -> Damage:
    DAMAGES[plant.__name__] = plant
    return plant


def place(tape: Tape, name: str, offset: int) -> str:
    return f"{tape.topic(name)}/0@{offset}"


def at(tape: Tape, rule: Rule, offset: int, name: str = "journal") -> Expected:
    return rule, place(tape, name, offset)


def accepted_entries(tape: Tape) -> list[int]:
    codec: Codec[Any] = Codec(Json)
    fold = JournalState()
    found = []
    for offset, value in enumerate(tape.journal):
        record = codec.decode(value)
        if fold.fold(offset, record, value) is Verdict.ACCEPTED and isinstance(record, Entry):
            found.append(offset)
    return found


def victim(tape: Tape) -> tuple[int, int]:
    """An entry in the middle that moves money, and the next one; both of one leadership."""
    entries = accepted_entries(tape)
    pairs = [
        (one, other)
        for one, other in pairwise(entries)
        if tape.decoded(one)["epoch"] == tape.decoded(other)["epoch"]
        and any(moves_money(item) for item in tape.decoded(one)["batch"])
    ]
    return pairs[len(pairs) // 2]


def moves_money(item: Json) -> bool:
    return any(event["type"] == "transferred" for event in item.get("events", ()))


def first_transfer(entry: Json) -> Json:
    event: Json = next(i for i in entry["batch"] if moves_money(i))["events"][0]
    return event


def output(tape: Tape, sink: str, offset: int) -> Json:
    decoded: Json = msgspec.json.decode(tape.sinks[sink][offset])
    return decoded


def rechain(tape: Tape, entries: list[int], start: int) -> None:
    """As a forger would: the running hash of every one of `entries` behind `start` made to fit."""
    later = [offset for offset in entries if offset >= start]
    for before, offset in pairwise(later):
        digest = next_digest(tape.decoded(before)["digest_before"], tape.journal[before])
        tape.change(offset, lambda entry, digest=digest: entry.update(digest_before=digest))  # type: ignore[misc]


@damage
def an_entry_is_missing(tape: Tape) -> Expected:
    one, _ = victim(tape)
    gone = tape.decoded(one)
    del tape.journal[one]
    after = next(
        n
        for n in range(one, len(tape.journal))
        if tape.decoded(n)["epoch"] == gone["epoch"] and tape.decoded(n).get("seq", 0) > gone["seq"]
    )
    return at(tape, Rule.SEQ_DENSE, after)


@damage
def an_epochs_claims_are_missing(tape: Tape) -> Expected:
    epoch = tape.decoded(accepted_entries(tape)[-1])["epoch"]
    for claim in reversed(tape.offsets("claim")):
        if tape.decoded(claim)["epoch"] == epoch:
            del tape.journal[claim]
    return at(tape, Rule.EPOCH_CLAIMED, first_of(tape, epoch))


def first_of(tape: Tape, epoch: int) -> int:
    return next(n for n in range(len(tape.journal)) if tape.decoded(n)["epoch"] == epoch)


@damage
def an_amount_is_changed(tape: Tape) -> Expected:
    one, _ = victim(tape)

    def change(entry: Json) -> None:
        first_transfer(entry)["amount"] += 1

    tape.change(one, change)
    return at(tape, Rule.DECISION, one)


@damage
def a_balance_is_forged_and_every_hash_made_to_fit(tape: Tape) -> Expected:
    one, _ = victim(tape)

    def change(entry: Json) -> None:
        first_transfer(entry)["to_balance"] += 1_000

    entries = accepted_entries(tape)
    tape.change(one, change)
    rechain(tape, entries, one)
    return at(tape, Rule.DECISION, one)


@damage
def an_outcome_is_turned_into_a_rejection(tape: Tape) -> Expected:
    one, _ = victim(tape)

    def change(entry: Json) -> None:
        item = next(i for i in entry["batch"] if moves_money(i))
        del item["events"]
        item["rejected"] = "insufficient_funds"

    tape.change(one, change)
    return at(tape, Rule.DECISION, one)


@damage
def an_entrys_epoch_is_lowered(tape: Tape) -> Expected:
    one, _ = victim(tape)
    tape.change(one, lambda entry: entry.update(epoch=entry["epoch"] - 1))
    return at(tape, Rule.SEQ_DENSE, one)


@damage
def an_entrys_epoch_is_raised(tape: Tape) -> Expected:
    one, _ = victim(tape)
    tape.change(one, lambda entry: entry.update(epoch=entry["epoch"] + 5))
    return at(tape, Rule.EPOCH_CLAIMED, one)


@damage
def two_entries_are_exchanged(tape: Tape) -> Expected:
    one, other = victim(tape)
    tape.journal[one], tape.journal[other] = tape.journal[other], tape.journal[one]
    return at(tape, Rule.SEQ_DENSE, one)


@damage
def a_digest_before_is_wrong(tape: Tape) -> Expected:
    one, _ = victim(tape)
    tape.change(one, lambda entry: entry.update(digest_before="ab" * 16))
    return at(tape, Rule.DIGEST_CHAIN, one)


@damage
def a_bit_is_flipped_and_the_entry_unreadable(tape: Tape) -> Expected:
    one, _ = victim(tape)
    value = bytearray(tape.journal[one])
    value[0] ^= 0x20
    tape.journal[one] = bytes(value)
    return at(tape, Rule.SEQ_DENSE, one)


@damage
def an_entrys_time_is_changed(tape: Tape) -> Expected:
    one, other = victim(tape)
    tape.change(one, lambda entry: entry.update(time=entry["time"] + 1))
    return at(tape, Rule.DIGEST_CHAIN, other)


@damage
def a_source_offset_is_wrong(tape: Tape) -> Expected:
    one, _ = victim(tape)

    def change(entry: Json) -> None:
        topic = max(entry["sources"], key=lambda name: entry["sources"][name])
        entry["sources"][topic] += 1

    tape.change(one, change)
    return at(tape, Rule.SOURCE_OFFSETS, one)


@damage
def two_commands_of_a_batch_are_exchanged(tape: Tape) -> Expected:
    one = max(accepted_entries(tape), key=lambda n: len(tape.decoded(n)["batch"]))

    def change(entry: Json) -> None:
        entry["batch"][0], entry["batch"][1] = entry["batch"][1], entry["batch"][0]

    tape.change(one, change)
    return at(tape, Rule.SOURCE_ORDER, one)


@damage
def a_repeat_is_decided_anew(tape: Tape) -> Expected:
    one = next(
        n for n in accepted_entries(tape) if any("replayed" in i for i in tape.decoded(n)["batch"])
    )

    def change(entry: Json) -> None:
        item = next(i for i in entry["batch"] if "replayed" in i)
        del item["replayed"]
        item |= {"type": "deposit", "rejected": "unknown_account"}

    tape.change(one, change)
    return at(tape, Rule.REPEAT, one)


@damage
def a_command_is_called_a_repeat(tape: Tape) -> Expected:
    one, _ = victim(tape)

    def change(entry: Json) -> None:
        place = next(n for n, item in enumerate(entry["batch"]) if moves_money(item))
        entry["batch"][place] = {"id": entry["batch"][place]["id"], "replayed": True}

    tape.change(one, change)
    return at(tape, Rule.REPEAT, one)


@damage
def the_sequences_of_a_sink_are_wrong(tape: Tape) -> Expected:
    one, _ = victim(tape)
    tape.change(one, lambda entry: entry["sinks"].update(results=entry["sinks"]["results"] + 1))
    return at(tape, Rule.SINK_ENDS, one)


@damage
def a_mark_is_beyond_what_is_stable(tape: Tape) -> Expected:
    one, _ = victim(tape)
    tape.change(one, lambda entry: entry["published"].update(results=entry["sinks"]["results"]))
    return at(tape, Rule.MARK_STABLE, one)


@damage
def a_claim_has_seen_the_future(tape: Tape) -> Expected:
    claim = tape.offsets("claim")[0]
    tape.change(claim, lambda record: record.update(seen=claim + 3))
    return at(tape, Rule.CLAIM_HONEST, claim)


@damage
def an_output_is_missing(tape: Tape) -> Expected:
    offset = len(tape.sinks["results"]) // 3
    del tape.sinks["results"][offset]
    return at(tape, Rule.SINK_DENSE, offset, "results")


@damage
def an_output_is_changed(tape: Tape) -> Expected:
    offset = len(tape.sinks["balances"]) // 3
    record = output(tape, "balances", offset)
    record["balance"] += 1
    tape.sinks["balances"][offset] = msgspec.json.encode(record)
    return at(tape, Rule.SINK_CONTENT, offset, "balances")


@damage
def an_output_is_there_twice_and_all_behind_it_numbered_anew(tape: Tape) -> Expected:
    offset = len(tape.sinks["balances"]) // 3
    values = tape.sinks["balances"]
    values.insert(offset, values[offset])
    for later in range(offset + 1, len(values)):
        record = output(tape, "balances", later)
        values[later] = msgspec.json.encode(record | {"seq": record["seq"] + 1})
    return at(tape, Rule.SINK_CONTENT, offset + 1, "balances")


@damage
def a_sequence_comes_again_as_another_record(tape: Tape) -> Expected:
    offset = len(tape.sinks["balances"]) // 2
    record = output(tape, "balances", offset - 2)
    record["balance"] += 1
    tape.sinks["balances"].insert(offset, msgspec.json.encode(record))
    return at(tape, Rule.SINK_REPEAT, offset, "balances")


@damage
def a_sink_lacks_what_a_mark_says_is_there(tape: Tape) -> Expected:
    del tape.sinks["balances"][-2:]
    highest, where = 0, 0
    for offset in range(len(tape.journal)):
        mark = tape.decoded(offset).get("published", {}).get("balances", 0)
        if mark > highest:
            highest, where = mark, offset
    return at(tape, Rule.MARK_IN_SINK, where)


@damage
def a_sink_holds_what_the_journal_does_not_explain(tape: Tape) -> Expected:
    end = sum(len(tape.decoded(n)["batch"]) for n in accepted_entries(tape))
    last = output(tape, "results", len(tape.sinks["results"]) - 1)
    tape.sinks["results"].append(msgspec.json.encode(last | {"seq": end}))
    return at(tape, Rule.SINK_EXPLAINED, len(tape.sinks["results"]) - 1, "results")


@damage
def a_sinks_record_is_no_output(tape: Tape) -> Expected:
    offset = len(tape.sinks["results"]) // 2
    tape.sinks["results"].insert(offset, b'{"hello":"world"}')
    return at(tape, Rule.SINK_READABLE, offset, "results")


@damage
def a_source_record_is_changed(tape: Tape) -> Expected:
    one, _ = victim(tape)
    wanted = first_transfer(tape.decoded(one))["amount"]
    ids = [item["id"] for item in tape.decoded(one)["batch"] if moves_money(item)]
    for rows in tape.sources.values():
        for offset, (key, value) in enumerate(rows):
            if f'"id":"{ids[0]}"'.encode() in value:
                command = msgspec.json.decode(value)
                rows[offset] = (key, msgspec.json.encode(command | {"amount": wanted + 1}))
    return at(tape, Rule.DECISION, one)


@damage
def a_source_record_is_missing(tape: Tape) -> Expected:
    one, _ = victim(tape)
    first = tape.decoded(one)["batch"][0]["id"]
    for rows in tape.sources.values():
        found = [n for n, (_, value) in enumerate(rows) if f'"id":"{first}"'.encode() in value]
        for offset in found[:1]:
            del rows[offset]
    return at(tape, Rule.SOURCE_ORDER, one)


@damage
def a_replica_holds_something_else(tape: Tape) -> Expected:
    seq = tape.statuses[-1].seq
    tape.statuses.append(status("r3", seq, "cd" * 16))
    return at(tape, Rule.REPLICA_DIGEST, len(tape.statuses) - 1, "status")


@damage
def the_journals_end_is_cut_off(tape: Tape) -> Expected:
    highest = max(status.seq for status in tape.statuses)
    while any(tape.decoded(n)["seq"] + len(tape.decoded(n)["batch"]) >= highest
              for n in accepted_entries(tape)[-1:]):  # fmt: skip
        del tape.journal[accepted_entries(tape)[-1] :]
    end = max(n for n, s in enumerate(tape.statuses) if s.seq == highest)
    first = min(n for n, s in enumerate(tape.statuses)
                if (s.replica, s.digest, s.seq) == _said(tape, end))  # fmt: skip
    return at(tape, Rule.REPLICA_DIGEST, first, "status")


def _said(tape: Tape, offset: int) -> tuple[str, str, int]:
    said = tape.statuses[offset]
    return said.replica, said.digest, said.seq
