"""Audits of stored snapshots, and of a journal whose beginning is deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from postjournal.adapters.snapshots.object_store import ObjectStore
from postjournal.config.settings import StoreSettings
from postjournal.core.errors import RecordsMissing
from postjournal.core.fold import JournalState, Verdict
from postjournal.core.records import Codec, Entry
from postjournal.core.sharding import ShardPlace
from postjournal.core.snapshot import manifest as manifests
from postjournal.core.snapshot.image import Image, record_digest
from postjournal.core.snapshot.manifest import Manifest
from postjournal.core.state.state_machine import StateMachine
from postjournal.ledger import Ledger
from postjournal.verify.report import ShardReport
from postjournal.verify.rules import Rule
from postjournal.verify.shard import AuditInput, audit_shard
from postjournal.verify.store import list_snapshots
from tests.support.audited_shard import (
    WINDOW,
    MemoryPartition,
    ShardRecords,
    audit_input,
    broken,
    eventful,
)
from tests.support.snapshots import AnyImage, stored

RECORDS = eventful()


@dataclass(frozen=True)
class InMemory:
    manifest: Manifest
    data: bytes | None

    @property
    def path(self) -> str:
        return f"memory/{self.manifest.offset}"

    def read(self) -> Iterator[bytes]:
        if self.data is None:
            raise FileNotFoundError(self.path)
        yield self.data[:1000]
        yield self.data[1000:]


def image_at(offset: int, records: ShardRecords = RECORDS) -> AnyImage:
    """The image of a replica that has read up to `offset`."""
    codec: Codec[Any] = Codec(Ledger.event_type)
    fold, machine = JournalState(), StateMachine[Any, Any, Any](Ledger(), ShardPlace(0, 1), WINDOW)
    for at, value in enumerate(records.journal[: offset + 1]):
        record = codec.decode(value)
        if fold.fold(at, record, value) is Verdict.ACCEPTED and isinstance(record, Entry):
            machine.apply(record)
    return Image(offset, record_digest(records.journal[offset]), fold, machine)


def snapshot_of(image: AnyImage, **changes: Any) -> InMemory:
    return InMemory(*stored(image, id=f"s{image.offset}", **changes))


def audited(*snapshots: InMemory, records: ShardRecords = RECORDS) -> ShardReport:
    found = replace(audit_input(records), snapshots=snapshots)
    return audit_shard(Ledger(), found, WINDOW)


def test_a_snapshot_taken_at_any_offset_is_what_the_journal_gives() -> None:
    every = [snapshot_of(image_at(offset)) for offset in range(len(RECORDS.journal))]
    report = audited(*reversed(every))
    assert report.sound, report.findings
    assert report.snapshots == [f"s{offset}" for offset in range(len(RECORDS.journal))]


@pytest.mark.parametrize("part", [0, 0.1, 0.5, 0.9, 0.999])
def test_a_flipped_bit_is_found(part: float) -> None:
    sound = snapshot_of(image_at(9))
    assert sound.data is not None
    data = bytearray(sound.data)
    data[int(part * len(data))] ^= 4
    report = audited(
        snapshot_of(image_at(5)), replace(sound, data=bytes(data)), snapshot_of(image_at(11))
    )
    assert broken(report) == {(Rule.SNAPSHOT_READABLE.value, "memory/9")}


def test_a_truncated_snapshot_is_found() -> None:
    sound = snapshot_of(image_at(9))
    assert sound.data is not None
    for end in (0, 10, len(sound.data) - 1):
        report = audited(replace(sound, data=sound.data[:end]))
        assert broken(report) == {(Rule.SNAPSHOT_READABLE.value, "memory/9")}


def change_balance(image: AnyImage) -> None:
    image.machine.state["a"] += 1


def forget_a_command(image: AnyImage) -> None:
    outcomes = list(image.machine.window.outcomes())
    image.machine.window.__init__(WINDOW)  # type: ignore[misc]
    image.machine.window.add_all(outcomes[1:])


def change_digest(image: AnyImage) -> None:
    image.journal.digest = "ab" * 16


def change_leader(image: AnyImage) -> None:
    image.journal.leader = "another"


def change_sources(image: AnyImage) -> None:
    image.machine.sources["ledger.feed"] -= 1


def publish_less(image: AnyImage) -> None:
    image.journal.published["results"] -= 1


@pytest.mark.parametrize(
    ("forge", "difference"),
    [
        (change_balance, "the application's state"),
        (forget_a_command, "the dedupe window"),
        (change_digest, "digest"),
        (change_leader, "leader"),
        (change_sources, "sources"),
        (publish_less, "published"),
    ],
)
def test_a_forged_snapshot_is_found_although_every_hash_matches(
    forge: Callable[[AnyImage], None], difference: str
) -> None:
    image = image_at(9)
    forge(image)
    report = audited(snapshot_of(image))
    assert broken(report) == {(Rule.SNAPSHOT_CONTENT.value, "memory/9")}
    assert difference in report.findings[0].text


def test_a_snapshot_of_another_offset_is_found() -> None:
    manifest, data = stored(image_at(9), offset=8)
    report = audited(InMemory(manifest, data))
    assert {rule for rule, _ in broken(report)} == {Rule.SNAPSHOT_CONTENT.value}


def test_a_snapshot_beyond_the_journals_end_is_found() -> None:
    short = RECORDS.copy()
    del short.journal[12:]
    for values in short.sinks.values():
        del values[:]
    report = audited(snapshot_of(image_at(13)), records=short)
    assert (Rule.SNAPSHOT_CONTENT.value, "memory/13") in broken(report)


def test_a_snapshot_deleted_meanwhile_is_not_damage() -> None:
    report = audited(replace(snapshot_of(image_at(9)), data=None))
    assert report.sound
    assert report.snapshots == []


# --- the store ---------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(StoreSettings(tmp_path.as_uri(), None, None))


def put(store: ObjectStore, offset: int) -> Manifest:
    name = manifests.object_name(offset, f"s{offset}", "i" * 12)
    manifest, data = stored(image_at(offset), id=f"s{offset}", object=name)
    store.put(f"ledger/shard-0/{name}", [data])
    assert store.create(f"ledger/shard-0/{manifest.name}", manifests.encode(manifest))
    return manifest


def from_store(store: ObjectStore) -> ShardReport:
    return audit_shard(Ledger(), with_snapshots_of(store), WINDOW)


def with_snapshots_of(store: ObjectStore) -> AuditInput:
    found = list_snapshots(store, "ledger", 0)
    return replace(
        audit_input(RECORDS), snapshots=found.readable, unreadable_manifests=found.unreadable
    )


def test_snapshots_in_a_store_are_found_and_compared(store: ObjectStore) -> None:
    put(store, 5)
    put(store, 12)
    report = from_store(store)
    assert report.sound
    assert report.snapshots == ["s5", "s12"]


def test_a_manifest_without_its_object_is_damage(store: ObjectStore) -> None:
    path = f"ledger/shard-0/{put(store, 5).object}"
    store.delete(path)
    assert broken(from_store(store)) == {(Rule.SNAPSHOT_READABLE.value, path)}


def test_a_snapshot_deleted_between_listing_and_reading_is_ignored(store: ObjectStore) -> None:
    manifest = put(store, 5)
    found = with_snapshots_of(store)
    store.delete(f"ledger/shard-0/{manifest.name}")
    store.delete(f"ledger/shard-0/{manifest.object}")
    assert audit_shard(Ledger(), found, WINDOW).sound


def test_an_unreadable_manifest_is_damage(store: ObjectStore) -> None:
    path = "ledger/shard-0/00000000000000000007-x.json"
    store.create(path, b'{"format":1}')
    assert broken(from_store(store)) == {(Rule.SNAPSHOT_READABLE.value, path)}


# --- a journal whose beginning is deleted ---------------------------------------------------


def trimmed(first: int, *snapshots: InMemory, records: ShardRecords = RECORDS) -> AuditInput:
    found = audit_input(records)
    rows = [(None, value) for value in records.journal]
    journal = MemoryPartition(found.journal.topic, rows, first)
    return replace(found, journal=journal, snapshots=snapshots)


def test_a_trimmed_journal_is_followed_from_the_oldest_snapshot_that_it_follows() -> None:
    found = trimmed(7, *(snapshot_of(image_at(offset)) for offset in (3, 8, 11)))
    report = audit_shard(Ledger(), found, WINDOW)
    assert report.sound, report.findings
    assert report.start is not None
    assert report.start.snapshot == "s8"
    assert report.snapshots == ["s11"]
    whole = audit_shard(Ledger(), audit_input(RECORDS), WINDOW)
    assert (report.seq, report.digest, report.epoch) == (whole.seq, whole.digest, whole.epoch)
    assert report.commands == whole.seq - report.start.seq
    assert report.sinks["results"].unpublished == whole.sinks["results"].unpublished
    assert report.sinks["results"].unchecked > 0


@pytest.mark.parametrize("offset", range(len(RECORDS.journal) - 1))
def test_a_trimmed_journal_can_be_followed_from_anywhere(offset: int) -> None:
    report = audit_shard(Ledger(), trimmed(offset + 1, snapshot_of(image_at(offset))), WINDOW)
    assert report.sound, report.findings


def test_damage_behind_the_snapshot_is_found_in_a_trimmed_journal() -> None:
    records = RECORDS.copy()
    last = records.offsets("entry")[-1]
    records.change(last, lambda entry: entry["batch"][0]["events"][0].update(amount=6))
    changed = msgspec.json.decode(records.sinks["results"][-1]) | {"status": "rejected"}
    records.sinks["results"][-1] = msgspec.json.encode(changed)
    report = audit_shard(Ledger(), trimmed(9, snapshot_of(image_at(8)), records=records), WINDOW)
    offset = len(records.sinks["results"]) - 1
    assert broken(report) == {
        (Rule.DECISION.value, f"ledger.journal/0@{last}"),
        (Rule.SINK_CONTENT.value, f"ledger.results/0@{offset}"),
    }


def test_a_trimmed_journal_without_a_sound_snapshot_cannot_be_verified() -> None:
    sound = snapshot_of(image_at(8))
    assert sound.data is not None
    for snapshots in ((), (snapshot_of(image_at(3)),), (replace(sound, data=sound.data[:-9]),)):
        with pytest.raises(RecordsMissing, match="begins at offset 7"):
            audit_shard(Ledger(), trimmed(7, *snapshots), WINDOW)
