"""Where a replica's state comes from: the newest snapshot that verifies, else an older one, else
the whole journal. The same for production and the simulation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from postjournal.core.errors import RecordsMissing, SnapshotMismatch, SnapshotUnusable
from postjournal.core.snapshot.image import Image, record_digest
from postjournal.core.snapshot.manifest import Manifest

AnyImage = Image[Any, Any, Any]

Loader = Callable[[Iterator[bytes], Manifest], AnyImage]
"""`snapshot_codec.restore` with everything but these two filled in."""


class RecoveryJournal(Protocol):
    """The journal, looked at from outside. Raises `JournalUnavailable`."""

    def bounds(self) -> tuple[int, int]:
        """The offset of the first record that is left, and that after the last."""

    def value(self, offset: int) -> bytes | None:
        """The record at `offset`, or None when it has been deleted."""


class SnapshotSource(Protocol):
    """The snapshots of one shard. Raises `StoreUnavailable` and `StoreUnusable`."""

    @property
    def newest_first(self) -> Sequence[Manifest]:
        """All that have a manifest that can be read."""

    @property
    def unusable(self) -> Mapping[str, str]:
        """Manifest name → why it counts for nothing."""

    def read(self, manifest: Manifest) -> Iterator[bytes]:
        """See `SnapshotStore.read`."""


@dataclass(frozen=True)
class Recovery:
    """`image` None: from the beginning of the journal; `skipped`: snapshot → why not this one."""

    image: AnyImage | None
    skipped: dict[str, str] = field(default_factory=dict)


def every(manifest: Manifest) -> bool:
    """No snapshot is too new."""
    del manifest
    return True


def recover(
    snapshots: SnapshotSource,
    journal: RecoveryJournal,
    load: Loader,
    fits: Callable[[Manifest], bool] = every,
) -> Recovery:
    """The best image there is; `fits` leaves out those that are beyond a point in time.

    Raises `SnapshotMismatch` when the snapshots are not of this journal, `RecordsMissing` when
    nothing is usable and the journal's beginning is gone, and what `snapshots` and `journal` do.
    """
    begin, end = journal.bounds()
    skipped = dict(snapshots.unusable)
    for manifest in filter(fits, snapshots.newest_first):
        _check_belongs(manifest, journal, begin, end)
        if manifest.offset + 1 < begin:
            skipped[manifest.id] = f"it ends at offset {manifest.offset}, the journal begins later"
            continue
        try:
            return Recovery(load(snapshots.read(manifest), manifest), skipped)
        except SnapshotUnusable as error:
            skipped[manifest.id] = str(error)
    if begin > 0:
        raise RecordsMissing(_explanation(begin, skipped))
    return Recovery(None, skipped)


def _check_belongs(manifest: Manifest, journal: RecoveryJournal, begin: int, end: int) -> None:
    """A journal that is shorter than a snapshot, or holds another record where that was taken,
    is another journal."""
    advice = "restore that journal, or move the snapshots away if its data is to be given up"
    if manifest.offset >= end:
        raise SnapshotMismatch(
            f"snapshot {manifest.id} accounts for the journal up to offset {manifest.offset}, but "
            f"the journal ends before offset {end}: was the topic made anew, or has Kafka lost "
            f"records? {advice}"
        )
    if manifest.offset < begin:
        return
    value = journal.value(manifest.offset)
    if value is not None and record_digest(value) != manifest.record_digest:
        raise SnapshotMismatch(
            f"snapshot {manifest.id} was taken of another journal: the record at offset "
            f"{manifest.offset} is not the one that it was taken at; {advice}"
        )


def _explanation(begin: int, skipped: Mapping[str, str]) -> str:
    reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
    return (
        f"the journal begins at offset {begin}, what came before was deleted, and no snapshot can "
        f"stand for it ({reasons or 'there is none'}). Bring back a snapshot that ends at offset "
        f"{begin - 1} or later, or the deleted records"
    )
