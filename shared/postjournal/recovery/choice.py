"""Chooses what a replica restores: the newest sound snapshot, or else the whole journal.

Production and the simulation run the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from postjournal.core.errors import RecordsMissing, SnapshotMismatch, SnapshotUnusable
from postjournal.core.snapshot.image import Image, record_digest
from postjournal.core.snapshot.manifest import Manifest

AnyImage = Image[Any, Any, Any]

Loader = Callable[[Iterator[bytes], Manifest], AnyImage]
"""`codec.restore` of a stored object and its manifest, with the other arguments bound."""


class RecoveryJournal(Protocol):
    """A shard's journal before it is followed. Every method raises `JournalUnavailable`."""

    def bounds(self) -> tuple[int, int]:
        """The first available offset and the offset after the last record."""

    def value(self, offset: int) -> bytes | None:
        """The record at `offset`, or None when it is deleted."""


class SnapshotSource(Protocol):
    """The snapshots of one shard. Everything raises `StoreUnavailable` and `StoreUnusable`."""

    @property
    def newest_first(self) -> Sequence[Manifest]:
        """The manifests that can be read, by falling offset."""

    @property
    def unusable(self) -> Mapping[str, str]:
        """Name of a manifest that cannot be read → reason."""

    def read(self, manifest: Manifest) -> Iterator[bytes]:
        """The stored object; raises `SnapshotDamaged` at its end unless it matches the manifest."""


@dataclass(frozen=True)
class Recovery:
    """What to restore: `image`, or None: read the journal from its beginning.

    `skipped`: id of a newer snapshot, or name of a manifest → why it was not used.
    """

    image: AnyImage | None
    skipped: dict[str, str] = field(default_factory=dict)


def every(manifest: Manifest) -> bool:
    """Accept every snapshot: the default of `recover`."""
    del manifest
    return True


def recover(
    snapshots: SnapshotSource,
    journal: RecoveryJournal,
    load: Loader,
    fits: Callable[[Manifest], bool] = every,
) -> Recovery:
    """Restore the newest usable snapshot; `fits` excludes snapshots beyond a point in time.

    Raises `SnapshotMismatch` when the snapshots are not of this journal, `RecordsMissing` when
    no snapshot is usable and the journal's beginning is deleted, and what `snapshots` and
    `journal` raise.
    """
    begin, end = journal.bounds()
    skipped = dict(snapshots.unusable)
    for manifest in filter(fits, snapshots.newest_first):
        _check_belongs(manifest, journal, begin, end)
        if manifest.offset + 1 < begin:
            skipped[manifest.id] = f"it ends at offset {manifest.offset}, before the journal begins"
            continue
        try:
            return Recovery(load(snapshots.read(manifest), manifest), skipped)
        except SnapshotUnusable as error:
            skipped[manifest.id] = str(error)
    if begin > 0:
        raise RecordsMissing(_explanation(begin, skipped))
    return Recovery(None, skipped)


def _check_belongs(manifest: Manifest, journal: RecoveryJournal, begin: int, end: int) -> None:
    """A journal that is shorter than a snapshot, or has another record at the snapshot's offset,
    is not the journal that the snapshot was taken of."""
    advice = "restore that journal; or, to give up its data, move the snapshots out of the store"
    if manifest.offset >= end:
        raise SnapshotMismatch(
            f"snapshot {manifest.id} includes the journal up to offset {manifest.offset}, but the "
            f"journal ends before offset {end}: the topic was recreated, or Kafka has lost "
            f"records; {advice}"
        )
    if manifest.offset < begin:
        return
    value = journal.value(manifest.offset)
    if value is not None and record_digest(value) != manifest.record_digest:
        raise SnapshotMismatch(
            f"snapshot {manifest.id} was taken of another journal: the record at offset "
            f"{manifest.offset} differs; {advice}"
        )


def _explanation(begin: int, skipped: Mapping[str, str]) -> str:
    reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
    return (
        f"the journal begins at offset {begin}, and no snapshot replaces the deleted records "
        f"before it ({reasons or 'the store has none'}). Restore a snapshot that ends at offset "
        f"{begin - 1} or later, or the deleted records"
    )
