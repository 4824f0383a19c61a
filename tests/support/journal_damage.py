"""Kinds of damage: each changes a shard's records and returns the rule and record to be found."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec

from postjournal.core.fold import JournalState, Verdict, next_digest
from postjournal.core.records import Codec, Entry
from postjournal.verify.rules import Rule
from tests.support.audited_shard import Json, ShardRecords, status

Expected = tuple[Rule, str]
Damage = Callable[[ShardRecords], Expected]

DAMAGES: dict[str, Damage] = {}


def damage(plant: Damage) -> Damage:
    DAMAGES[plant.__name__] = plant
    return plant


def at(records: ShardRecords, rule: Rule, offset: int, name: str = "journal") -> Expected:
    return rule, f"{records.topic(name)}/0@{offset}"


def accepted_entries(records: ShardRecords) -> list[int]:
    codec: Codec[Any] = Codec(Json)
    fold = JournalState()
    found = []
    for offset, value in enumerate(records.journal):
        record = codec.decode(value)
        if fold.fold(offset, record, value) is Verdict.ACCEPTED and isinstance(record, Entry):
            found.append(offset)
    return found


def entry_pair(records: ShardRecords) -> tuple[int, int]:
    """An entry in the middle that transfers money, and the next one of the same leadership."""
    entries = accepted_entries(records)
    pairs = [
        (one, other)
        for one, other in pairwise(entries)
        if records.decoded(one)["epoch"] == records.decoded(other)["epoch"]
        and any(moves_money(item) for item in records.decoded(one)["batch"])
    ]
    return pairs[len(pairs) // 2]


def moves_money(item: Json) -> bool:
    return any(event["type"] == "transferred" for event in item.get("events", ()))


def first_transfer(entry: Json) -> Json:
    event: Json = next(i for i in entry["batch"] if moves_money(i))["events"][0]
    return event


def output(records: ShardRecords, sink: str, offset: int) -> Json:
    decoded: Json = msgspec.json.decode(records.sinks[sink][offset])
    return decoded


def rechain(records: ShardRecords, entries: list[int], start: int) -> None:
    """Correct the running hash of every one of `entries` behind `start`, as a forger would."""
    later = [offset for offset in entries if offset >= start]
    for before, offset in pairwise(later):
        digest = next_digest(records.decoded(before)["digest_before"], records.journal[before])
        records.change(offset, lambda entry, digest=digest: entry.update(digest_before=digest))  # type: ignore[misc]


@damage
def an_entry_is_missing(records: ShardRecords) -> Expected:
    one, _ = entry_pair(records)
    missing = records.decoded(one)
    del records.journal[one]
    after = next(
        n
        for n in range(one, len(records.journal))
        if records.decoded(n)["epoch"] == missing["epoch"]
        and records.decoded(n).get("seq", 0) > missing["seq"]
    )
    return at(records, Rule.SEQ_DENSE, after)


@damage
def an_epochs_claims_are_missing(records: ShardRecords) -> Expected:
    epoch = records.decoded(accepted_entries(records)[-1])["epoch"]
    for claim in reversed(records.offsets("claim")):
        if records.decoded(claim)["epoch"] == epoch:
            del records.journal[claim]
    return at(records, Rule.EPOCH_CLAIMED, first_of(records, epoch))


def first_of(records: ShardRecords, epoch: int) -> int:
    return next(n for n in range(len(records.journal)) if records.decoded(n)["epoch"] == epoch)


@damage
def an_amount_is_changed(records: ShardRecords) -> Expected:
    one, _ = entry_pair(records)

    def change(entry: Json) -> None:
        first_transfer(entry)["amount"] += 1

    records.change(one, change)
    return at(records, Rule.DECISION, one)


@damage
def a_balance_is_forged_and_every_hash_made_to_fit(records: ShardRecords) -> Expected:
    one, _ = entry_pair(records)

    def change(entry: Json) -> None:
        first_transfer(entry)["to_balance"] += 1_000

    entries = accepted_entries(records)
    records.change(one, change)
    rechain(records, entries, one)
    return at(records, Rule.DECISION, one)


@damage
def an_outcome_is_turned_into_a_rejection(records: ShardRecords) -> Expected:
    one, _ = entry_pair(records)

    def change(entry: Json) -> None:
        item = next(i for i in entry["batch"] if moves_money(i))
        del item["events"]
        item["rejected"] = "insufficient_funds"

    records.change(one, change)
    return at(records, Rule.DECISION, one)


@damage
def an_entrys_epoch_is_lowered(records: ShardRecords) -> Expected:
    one, _ = entry_pair(records)
    records.change(one, lambda entry: entry.update(epoch=entry["epoch"] - 1))
    return at(records, Rule.SEQ_DENSE, one)


@damage
def an_entrys_epoch_is_raised(records: ShardRecords) -> Expected:
    one, _ = entry_pair(records)
    records.change(one, lambda entry: entry.update(epoch=entry["epoch"] + 5))
    return at(records, Rule.EPOCH_CLAIMED, one)


@damage
def two_entries_are_exchanged(records: ShardRecords) -> Expected:
    one, other = entry_pair(records)
    records.journal[one], records.journal[other] = records.journal[other], records.journal[one]
    return at(records, Rule.SEQ_DENSE, one)


@damage
def a_digest_before_is_wrong(records: ShardRecords) -> Expected:
    one, _ = entry_pair(records)
    records.change(one, lambda entry: entry.update(digest_before="ab" * 16))
    return at(records, Rule.DIGEST_CHAIN, one)


@damage
def a_bit_is_flipped_and_the_entry_unreadable(records: ShardRecords) -> Expected:
    one, _ = entry_pair(records)
    value = bytearray(records.journal[one])
    value[0] ^= 0x20
    records.journal[one] = bytes(value)
    return at(records, Rule.SEQ_DENSE, one)


@damage
def an_entrys_time_is_changed(records: ShardRecords) -> Expected:
    one, other = entry_pair(records)
    records.change(one, lambda entry: entry.update(time=entry["time"] + 1))
    return at(records, Rule.DIGEST_CHAIN, other)


@damage
def a_source_offset_is_wrong(records: ShardRecords) -> Expected:
    one, _ = entry_pair(records)

    def change(entry: Json) -> None:
        topic = max(entry["sources"], key=lambda name: entry["sources"][name])
        entry["sources"][topic] += 1

    records.change(one, change)
    return at(records, Rule.SOURCE_OFFSETS, one)


@damage
def two_commands_of_a_batch_are_exchanged(records: ShardRecords) -> Expected:
    one = max(accepted_entries(records), key=lambda n: len(records.decoded(n)["batch"]))

    def change(entry: Json) -> None:
        entry["batch"][0], entry["batch"][1] = entry["batch"][1], entry["batch"][0]

    records.change(one, change)
    return at(records, Rule.SOURCE_ORDER, one)


@damage
def a_repeat_is_decided_again(records: ShardRecords) -> Expected:
    one = next(
        n
        for n in accepted_entries(records)
        if any("replayed" in i for i in records.decoded(n)["batch"])
    )

    def change(entry: Json) -> None:
        item = next(i for i in entry["batch"] if "replayed" in i)
        del item["replayed"]
        item |= {"type": "deposit", "rejected": "unknown_account"}

    records.change(one, change)
    return at(records, Rule.REPEAT, one)


@damage
def a_command_is_marked_as_a_repeat(records: ShardRecords) -> Expected:
    one, _ = entry_pair(records)

    def change(entry: Json) -> None:
        batch = entry["batch"]
        index = next(n for n, item in enumerate(batch) if moves_money(item))
        batch[index] = {"id": batch[index]["id"], "replayed": True}

    records.change(one, change)
    return at(records, Rule.REPEAT, one)


@damage
def the_sequences_of_a_sink_are_wrong(records: ShardRecords) -> Expected:
    one, _ = entry_pair(records)
    records.change(one, lambda entry: entry["sinks"].update(results=entry["sinks"]["results"] + 1))
    return at(records, Rule.SINK_ENDS, one)


@damage
def a_mark_is_beyond_what_is_stable(records: ShardRecords) -> Expected:
    one, _ = entry_pair(records)
    records.change(one, lambda entry: entry["published"].update(results=entry["sinks"]["results"]))
    return at(records, Rule.MARK_STABLE, one)


@damage
def a_claim_has_seen_the_future(records: ShardRecords) -> Expected:
    claim = records.offsets("claim")[0]
    records.change(claim, lambda record: record.update(seen=claim + 3))
    return at(records, Rule.CLAIM_HONEST, claim)


@damage
def an_output_is_missing(records: ShardRecords) -> Expected:
    offset = len(records.sinks["results"]) // 3
    del records.sinks["results"][offset]
    return at(records, Rule.SINK_DENSE, offset, "results")


@damage
def an_output_is_changed(records: ShardRecords) -> Expected:
    offset = len(records.sinks["balances"]) // 3
    record = output(records, "balances", offset)
    record["balance"] += 1
    records.sinks["balances"][offset] = msgspec.json.encode(record)
    return at(records, Rule.SINK_CONTENT, offset, "balances")


@damage
def an_output_is_there_twice_and_later_ones_are_renumbered(records: ShardRecords) -> Expected:
    offset = len(records.sinks["balances"]) // 3
    values = records.sinks["balances"]
    values.insert(offset, values[offset])
    for later in range(offset + 1, len(values)):
        record = output(records, "balances", later)
        values[later] = msgspec.json.encode(record | {"seq": record["seq"] + 1})
    return at(records, Rule.SINK_CONTENT, offset + 1, "balances")


@damage
def a_sequence_comes_again_as_another_record(records: ShardRecords) -> Expected:
    offset = len(records.sinks["balances"]) // 2
    record = output(records, "balances", offset - 2)
    record["balance"] += 1
    records.sinks["balances"].insert(offset, msgspec.json.encode(record))
    return at(records, Rule.SINK_REPEAT, offset, "balances")


@damage
def a_sink_lacks_an_output_before_its_mark(records: ShardRecords) -> Expected:
    del records.sinks["balances"][-2:]
    highest, where = 0, 0
    for offset in range(len(records.journal)):
        mark = records.decoded(offset).get("published", {}).get("balances", 0)
        if mark > highest:
            highest, where = mark, offset
    return at(records, Rule.MARK_IN_SINK, where)


@damage
def a_sink_holds_what_the_journal_does_not_explain(records: ShardRecords) -> Expected:
    end = sum(len(records.decoded(n)["batch"]) for n in accepted_entries(records))
    last = output(records, "results", len(records.sinks["results"]) - 1)
    records.sinks["results"].append(msgspec.json.encode(last | {"seq": end}))
    return at(records, Rule.SINK_EXPLAINED, len(records.sinks["results"]) - 1, "results")


@damage
def a_sink_record_is_not_an_output(records: ShardRecords) -> Expected:
    offset = len(records.sinks["results"]) // 2
    records.sinks["results"].insert(offset, b'{"hello":"world"}')
    return at(records, Rule.SINK_READABLE, offset, "results")


@damage
def a_source_record_is_changed(records: ShardRecords) -> Expected:
    one, _ = entry_pair(records)
    wanted = first_transfer(records.decoded(one))["amount"]
    ids = [item["id"] for item in records.decoded(one)["batch"] if moves_money(item)]
    for rows in records.sources.values():
        for offset, (key, value) in enumerate(rows):
            if f'"id":"{ids[0]}"'.encode() in value:
                command = msgspec.json.decode(value)
                rows[offset] = (key, msgspec.json.encode(command | {"amount": wanted + 1}))
    return at(records, Rule.DECISION, one)


@damage
def a_source_record_is_missing(records: ShardRecords) -> Expected:
    one, _ = entry_pair(records)
    first = records.decoded(one)["batch"][0]["id"]
    for rows in records.sources.values():
        found = [n for n, (_, value) in enumerate(rows) if f'"id":"{first}"'.encode() in value]
        for offset in found[:1]:
            del rows[offset]
    return at(records, Rule.SOURCE_ORDER, one)


@damage
def a_replica_reports_another_digest(records: ShardRecords) -> Expected:
    seq = records.statuses[-1].seq
    records.statuses.append(status("r3", seq, "cd" * 16))
    return at(records, Rule.REPLICA_DIGEST, len(records.statuses) - 1, "status")


@damage
def the_journals_end_is_cut_off(records: ShardRecords) -> Expected:
    highest = max(status.seq for status in records.statuses)
    while any(records.decoded(n)["seq"] + len(records.decoded(n)["batch"]) >= highest
              for n in accepted_entries(records)[-1:]):  # fmt: skip
        del records.journal[accepted_entries(records)[-1] :]
    end = max(n for n, s in enumerate(records.statuses) if s.seq == highest)
    first = min(n for n, s in enumerate(records.statuses)
                if (s.replica, s.digest, s.seq) == _reported(records, end))  # fmt: skip
    return at(records, Rule.REPLICA_DIGEST, first, "status")


def _reported(records: ShardRecords, offset: int) -> tuple[str, str, int]:
    status = records.statuses[offset]
    return status.replica, status.digest, status.seq
