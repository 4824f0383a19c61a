"""A snapshot has the whole state, and damage to it is always detected."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from postjournal.core.application import Application
from postjournal.core.errors import (
    SnapshotDamaged,
    SnapshotMismatch,
    SnapshotTooNew,
    SnapshotUnusable,
)
from postjournal.core.sharding import ShardPlace
from postjournal.core.snapshot import manifest as manifests
from postjournal.core.snapshot.frames import FrameReader, frame
from postjournal.ledger import Ledger
from postjournal.samples.seats import Seats
from tests.support.next_ledger import NextLedger
from tests.support.snapshots import (
    CODEC,
    AnyImage,
    Journal,
    busy_journal,
    content_of,
    corrupted,
    restore,
    seats_journal,
    split,
    stored,
)

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def journal() -> Journal:
    return busy_journal()


# --- completeness --------------------------------------------------------------------------------


def test_a_snapshot_and_the_rest_of_the_journal_give_the_whole_state_at_every_offset(
    journal: Journal,
) -> None:
    whole = content_of(journal.fold())
    for end in range(1, len(journal.values)):
        restored = restore(*stored(journal.fold(end=end)))
        assert content_of(restored) == content_of(journal.fold(end=end))
        assert content_of(journal.fold(restored)) == whole


def test_the_dedupe_window_is_restored_with_its_outcomes_and_order(journal: Journal) -> None:
    image = journal.fold()
    restored = restore(*stored(image))
    assert list(restored.machine.window.outcomes()) == list(image.machine.window.outcomes())
    assert restored.machine.window.get("w1") == image.machine.window.get("w1")


def test_unpublished_outputs_are_restored_byte_for_byte(journal: Journal) -> None:
    image = journal.fold()
    restored = restore(*stored(image))
    for sink, outbox in image.machine.outboxes.items():
        mark = image.journal.published.get(sink, 0)
        runs = outbox.between(mark, outbox.next_seq)
        again = restored.machine.outboxes[sink].between(mark, outbox.next_seq)
        values = [value for run in runs for value in run.values]
        assert [value for run in again for value in run.values] == values
        assert len(values) == outbox.next_seq - mark
    assert restored.machine.sink_ends() == image.machine.sink_ends()


def test_a_leaders_and_a_standbys_snapshots_are_equal(journal: Journal) -> None:
    """The leader decided, the standby applied; the bytes are the same."""
    standby = journal.fold()
    leader = journal.fold()
    leader.machine.window = journal._leader.window
    leader.machine.state = journal._leader.state
    leader.machine.outboxes = journal._leader.outboxes
    assert content_of(leader) == content_of(standby)


def test_the_leader_is_known_after_a_restore_by_name_and_address(journal: Journal) -> None:
    restored = restore(*stored(journal.fold()))
    assert restored.journal.leader == "a-1"
    assert restored.journal.claim == CODEC.decode(journal.values[0])


def test_an_empty_state_can_be_stored_and_restored(journal: Journal) -> None:
    image = Journal().fold()
    assert content_of(restore(*stored(image))) == content_of(image)


@pytest.mark.parametrize("chunk", [1, 7, 100, 1 << 20])
def test_a_snapshot_is_restored_from_chunks_of_any_size(journal: Journal, chunk: int) -> None:
    image = journal.fold()
    assert content_of(restore(*stored(image), chunk=chunk)) == content_of(image)


# --- damage and mismatches -----------------------------------------------------------------------


def test_2000_corrupted_snapshots_are_all_detected(journal: Journal) -> None:
    manifest, data = stored(journal.fold())
    other_manifest, other = stored(journal.fold(end=20))
    content = content_of(restore(manifest, data))
    for seed in range(2_000):
        damaged = corrupted(random.Random(seed), data, other)
        assert damaged != data
        with pytest.raises(SnapshotDamaged):
            restore(manifest, damaged)
    assert content_of(restore(manifest, data)) == content
    assert other_manifest.sha256 != manifest.sha256


def test_content_of_another_snapshot_does_not_match_the_manifest(
    journal: Journal,
) -> None:
    """The manifest has the other snapshot's hash and sizes, but this one's offset and state."""
    manifest, _ = stored(journal.fold())
    other, data = stored(journal.fold(end=20))
    forged = msgspec.structs.replace(
        manifest, sha256=other.sha256, size=other.size, content_size=other.content_size
    )
    with pytest.raises(SnapshotDamaged, match="its manifest has"):
        restore(forged, data)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 51}, "POSTJOURNAL_DEDUPE_WINDOW 50, but here it is 51"),
        ({"place": ShardPlace(0, 2)}, "POSTJOURNAL_SHARDS 1, but here it is 2"),
    ],
)
def test_a_snapshot_of_another_configuration_halts_with_the_reason(
    journal: Journal, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(SnapshotMismatch, match=message):
        restore(*stored(journal.fold()), **arguments)


def test_damage_that_resembles_another_configuration_is_reported_as_damage(
    journal: Journal,
) -> None:
    """The hash is checked first, because a flipped bit must not halt a shard."""
    manifest, data = stored(journal.fold())
    wrong = msgspec.structs.replace(manifest, sha256="0" * 64)
    with pytest.raises(SnapshotDamaged):
        restore(wrong, data, window=51)


class Renamed(Ledger):
    pass


def test_another_applications_snapshot_is_refused(journal: Journal) -> None:
    with pytest.raises(SnapshotMismatch, match="application Ledger, but here it is Renamed"):
        restore(*stored(journal.fold()), Renamed())


# --- the layout ----------------------------------------------------------------------------------


def read_all(data: Iterable[bytes], size: int) -> list[tuple[str, bytes]]:
    reader, parts = FrameReader(data, size), []
    while (part := reader.next())[0] != "end":
        parts.append(part)
    return parts


def test_parts_with_any_content_are_read_back() -> None:
    parts = [("a", b""), ("b", b"\n"), ("b", b'{"part":"end","length":0}\n'), ("c", b"x" * 10_000)]
    data = b"".join(frame(parts))
    for size in (1, 3, 1_000_000):
        assert read_all(split(data, size), len(data)) == parts


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: data[: len(data) // 2],
        lambda data: b"x" * 1_000,
        lambda data: data.replace(b'"length":5', b'"length":6'),
        lambda data: data.replace(b'"length":5', b'"length":-5'),
        lambda data: data.replace(b'"length":5', b'"length":99999999999'),
        lambda data: data.replace(b'"parts":2', b'"parts":3'),
        lambda data: b"",
    ],
)
def test_a_damaged_layout_is_detected(damage: Any) -> None:
    data = b"".join(frame([("a", b"12345"), ("b", b"67")]))
    damaged = damage(data)
    with pytest.raises(SnapshotDamaged):
        read_all([damaged], len(data))


# --- versions ------------------------------------------------------------------------------------


class LedgerV2(Ledger):
    """Accounts are objects; the first version's are upgraded."""

    schema_version: ClassVar[int] = 2

    @property
    def name(self) -> str:
        return "Ledger"

    def load(self, schema_version: int, pieces: Iterable[bytes]) -> Any:
        if schema_version == 1:
            return {k: {"balance": v} for k, v in super().load(1, pieces).items()}
        accounts: dict[str, Any] = {}
        for piece in pieces:
            accounts.update(msgspec.json.decode(piece))
        return accounts


def golden(name: str) -> tuple[manifests.Manifest, bytes]:
    """Written by the release that introduced the version; it must stay readable forever."""
    manifest = (GOLDEN / f"{name}.json").read_bytes()
    data = (GOLDEN / f"{name}.snapshot.zst").read_bytes()
    return msgspec.json.decode(manifest, type=manifests.Manifest), data


def test_every_format_and_every_schema_version_has_a_golden_snapshot() -> None:
    """A change that raises a version must add one to `tests/unit/golden`."""
    stored_manifests = [golden(path.stem)[0] for path in GOLDEN.glob("*.json")]
    assert {manifest.format for manifest in stored_manifests} == set(
        range(1, manifests.FORMAT_VERSION + 1)
    )
    for application in (Ledger(), Seats()):
        schemas = {
            manifest.schema_version
            for manifest in stored_manifests
            if manifest.application == application.name
        }
        assert schemas == set(range(1, application.schema_version + 1))


@pytest.mark.parametrize(
    ("name", "made", "state"),
    [
        ("ledger-format-1", busy_journal, {"a": 60, "b": 40}),
        ("seats-format-1", seats_journal, {"1A": ("ann", 601_001), "1B": ("bob", None)}),
    ],
)
def test_a_golden_snapshot_can_be_restored(
    name: str, made: Callable[[], Journal], state: object
) -> None:
    journal = made()
    restored = restore(*golden(name), journal.application)
    assert restored.machine.state == state
    assert content_of(restored) == content_of(journal.fold())


def test_a_snapshot_of_an_older_schema_is_upgraded() -> None:
    restored = restore(*golden("ledger-format-1"), LedgerV2())
    assert restored.machine.state == {"a": {"balance": 60}, "b": {"balance": 40}}


def test_a_snapshot_of_a_newer_schema_is_refused(journal: Journal) -> None:
    image = journal.fold()
    image.machine.application = LedgerV2()
    with pytest.raises(SnapshotTooNew, match=r"schema 2 of Ledger.*up to 1: upgrade it"):
        restore(*stored(image))


def test_a_snapshot_of_a_newer_format_is_refused(journal: Journal) -> None:
    manifest, _ = stored(journal.fold())
    newer = manifests.encode(msgspec.structs.replace(manifest, format=2))
    with pytest.raises(SnapshotTooNew, match="upgrade this replica"):
        manifests.decode(manifest.name, newer)


# --- sinks that one release has and another has not ----------------------------------------------


def trail_journal(published: int) -> Journal:
    """Two commands decided by a release with the sink `trail`."""
    journal = Journal(NextLedger())
    journal.entry({"type": "open", "id": "o1", "account": "a"})
    journal.published = {"trail": published}
    journal.entry({"type": "open", "id": "o2", "account": "b"})
    journal.published = {"results": 2, "balances": 2, "trail": published}
    journal.append(journal.heartbeat())
    return journal


def trail_of(image: AnyImage) -> tuple[int, list[bytes]]:
    outbox = image.machine.outboxes["trail"]
    runs = outbox.unpublished(image.journal.published.get("trail", 0))
    return outbox.next_seq, [value for run in runs for value in run.values]


def test_a_new_sink_begins_with_the_first_entry_of_a_leader_that_has_it() -> None:
    before = Journal()
    before.entry({"type": "open", "id": "o0", "account": "z"})
    assert trail_of(restore(*stored(before.fold()), NextLedger())) == (0, [])


def test_a_release_without_a_sink_restores_what_one_with_it_has_stored() -> None:
    journal = trail_journal(published=1)
    restored = restore(*stored(journal.fold()))
    assert "trail" not in restored.machine.outboxes
    assert restored.machine.other_sinks == {"trail": 2}
    journal.application = Ledger()
    assert content_of(restored) == content_of(journal.fold())


def test_a_sink_continues_behind_a_snapshot_of_a_release_without_it() -> None:
    without = trail_journal(published=2)
    without.application = Ledger()
    snapshot = stored(without.fold())
    journal = trail_journal(published=2)
    restored = restore(*snapshot, NextLedger())
    assert trail_of(restored) == (2, [])
    assert content_of(restored) == content_of(journal.fold())


@pytest.mark.parametrize("release", ["0.1", "0.2"])
def test_a_snapshot_that_lacks_outputs_of_a_sink_is_not_used(release: str) -> None:
    """An older one, or the journal, is: outputs that are not published must not be lost."""
    without = trail_journal(published=1)
    without.application = Ledger()
    image = without.fold()
    if release == "0.1":
        image.machine.other_sinks = {}
    with pytest.raises(SnapshotUnusable, match="release without the sink trail"):
        restore(*stored(image), NextLedger())


class NoUpgrade(Ledger):
    schema_version: ClassVar[int] = 2
    load = Application.load  # the default reads its own version only

    @property
    def name(self) -> str:
        return "Ledger"


def test_a_snapshot_that_the_application_cannot_load_is_unusable(journal: Journal) -> None:
    with pytest.raises(SnapshotUnusable, match="does not upgrade schema 1"):
        restore(*stored(journal.fold()), NoUpgrade())
