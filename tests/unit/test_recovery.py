"""Which snapshot a replica comes back from, and when it must not come back at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

import msgspec
import pytest

from postjournal.core.errors import RecordsMissing, SnapshotDamaged, SnapshotMismatch
from postjournal.core.reader import Bound
from postjournal.core.snapshot.manifest import Manifest
from postjournal.ledger import Ledger
from postjournal.recovery import codec as snapshot_codec
from postjournal.recovery.choice import Loader, recover
from tests.support.snapshots import (
    PLACE,
    WINDOW,
    AnyImage,
    Journal,
    busy_journal,
    content_of,
    corrupted,
    stored,
    verified,
)

LOAD: Loader = partial(
    snapshot_codec.restore, application=Ledger(), place=PLACE, dedupe_window=WINDOW
)


@dataclass
class Look:
    """The journal, of which the beginning may have been deleted."""

    values: list[bytes]
    begin: int = 0

    def bounds(self) -> tuple[int, int]:
        return self.begin, len(self.values)

    def value(self, offset: int) -> bytes | None:
        return self.values[offset] if offset >= self.begin else None


@dataclass
class Shelf:
    """Snapshots in memory, newest first."""

    objects: list[tuple[Manifest, bytes]]
    unusable: Mapping[str, str] = field(default_factory=dict)
    read_ids: list[str] = field(default_factory=list)

    @property
    def newest_first(self) -> Sequence[Manifest]:
        return [manifest for manifest, _ in self.objects]

    def read(self, manifest: Manifest) -> Iterator[bytes]:
        self.read_ids.append(manifest.id)
        data = next(data for each, data in self.objects if each.id == manifest.id)
        return verified(manifest, data)


@pytest.fixture(scope="module")
def journal() -> Journal:
    return busy_journal()


def snapshot(journal: Journal, end: int, data: bytes | None = None) -> tuple[Manifest, bytes]:
    manifest, sound = stored(journal.fold(end=end), id=f"at-{end - 1}")
    return manifest, sound if data is None else data


def whole(journal: Journal, image: AnyImage | None) -> bytes:
    return content_of(journal.fold(image))


def test_the_newest_snapshot_is_taken(journal: Journal) -> None:
    shelf = Shelf([snapshot(journal, 30), snapshot(journal, 20)])
    found = recover(shelf, Look(journal.values), LOAD)
    assert found.image is not None
    assert (found.image.offset, found.image.snapshot_id, found.skipped) == (29, "at-29", {})
    assert shelf.read_ids == ["at-29"]


def test_a_damaged_one_is_skipped_for_an_older_one_and_told(journal: Journal) -> None:
    shelf = Shelf([snapshot(journal, 30, b"junk"), snapshot(journal, 20)], {"x.json": "no json"})
    found = recover(shelf, Look(journal.values), LOAD)
    assert found.image is not None
    assert found.image.offset == 19
    assert found.skipped.keys() == {"at-29", "x.json"}


def test_without_a_usable_snapshot_the_whole_journal_is_read(journal: Journal) -> None:
    assert recover(Shelf([]), Look(journal.values), LOAD).image is None
    assert recover(Shelf([snapshot(journal, 30, b"")]), Look(journal.values), LOAD).image is None


def test_2000_damaged_stores_all_lead_to_the_same_state(journal: Journal) -> None:
    """The newest is damaged, sometimes the older one too: the state is the journal's, always."""
    newest, older = snapshot(journal, 40), snapshot(journal, 20)
    right, right_before = content_of(journal.fold()), content_of(journal.fold(end=20))
    from_older = from_journal = 0
    for seed in range(2_000):
        rng = Random(seed)
        shelf = [(newest[0], corrupted(rng, newest[1], older[1])), older]
        if rng.random() < 0.1:
            shelf[1] = (older[0], corrupted(rng, older[1], newest[1]))
        found = recover(Shelf(shelf), Look(journal.values), LOAD)
        assert "at-39" in found.skipped, "the damage was not noticed"
        from_older += found.image is not None
        from_journal += found.image is None
        assert found.image is None or content_of(found.image) == right_before
        if seed % 20 == 0:
            assert whole(journal, found.image) == right
    assert from_older > 1_700
    assert from_journal > 100


def test_a_journal_cut_off_before_the_oldest_snapshot_is_refused_with_an_explanation(
    journal: Journal,
) -> None:
    shelf = Shelf([snapshot(journal, 20), snapshot(journal, 10, b"")])
    with pytest.raises(RecordsMissing) as caught:
        recover(shelf, Look(journal.values, begin=25), LOAD)
    told = str(caught.value)
    assert "begins at offset 25" in told
    assert "at-19: it ends at offset 19" in told


def test_a_trimmed_journal_without_any_snapshot_is_refused(journal: Journal) -> None:
    with pytest.raises(RecordsMissing, match="there is none"):
        recover(Shelf([]), Look(journal.values, begin=1), LOAD)


@pytest.mark.parametrize("begin", [19, 20])
def test_a_snapshot_that_ends_where_the_journal_begins_will_do(
    journal: Journal, begin: int
) -> None:
    found = recover(Shelf([snapshot(journal, 20)]), Look(journal.values, begin), LOAD)
    assert found.image is not None
    assert whole(journal, found.image) == content_of(journal.fold())


def test_a_journal_that_is_shorter_than_a_snapshot_halts(journal: Journal) -> None:
    """Kafka has lost records, or the topic is another one: to go on would lose them for good."""
    shelf = Shelf([snapshot(journal, 30)])
    with pytest.raises(SnapshotMismatch, match="ends before offset 10"):
        recover(shelf, Look(journal.values[:10]), LOAD)


def test_snapshots_of_another_journal_halt(journal: Journal) -> None:
    other = [b"another record" for _ in journal.values]
    with pytest.raises(SnapshotMismatch, match="of another journal"):
        recover(Shelf([snapshot(journal, 30)]), Look(other), LOAD)


def test_a_damaged_snapshot_of_another_configuration_is_only_damaged(journal: Journal) -> None:
    """A replica must not halt because of a flipped bit."""
    manifest, data = snapshot(journal, 30)
    lying = msgspec.structs.replace(manifest, sha256="0" * 64)
    load: Loader = partial(LOAD, dedupe_window=WINDOW + 1)  # type: ignore[call-arg]
    found = recover(Shelf([(lying, data)]), Look(journal.values), load)
    assert found.image is None


def test_for_a_point_in_time_only_older_snapshots_count(journal: Journal) -> None:
    shelf = Shelf([snapshot(journal, 40), snapshot(journal, 20)])
    found = recover(shelf, Look(journal.values), LOAD, Bound(offset=25).fits)
    assert found.image is not None
    assert found.image.offset == 19
    time = shelf.newest_first[1].journal_time
    assert recover(shelf, Look(journal.values), LOAD, Bound(time=time - 1).fits).image is None


def test_an_application_bug_in_load_is_told_as_damage_and_not_silently(journal: Journal) -> None:
    class Broken(Ledger):
        @property
        def name(self) -> str:
            return "Ledger"

        def load(self, schema_version: int, pieces: object) -> dict[str, int]:
            raise ZeroDivisionError

    load: Loader = partial(LOAD, application=Broken())  # type: ignore[call-arg]
    found = recover(Shelf([snapshot(journal, 30)]), Look(journal.values), load)
    assert "ZeroDivisionError" in found.skipped["at-29"]


def test_what_is_read_is_checked_to_its_end(journal: Journal) -> None:
    manifest, data = snapshot(journal, 30)
    with pytest.raises(SnapshotDamaged):
        LOAD(verified(manifest, data + b"more"), manifest)
