"""Uploading a snapshot to a store whose answer about the manifest is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from postjournal.adapters.snapshots.catalogue import SnapshotStore
from postjournal.adapters.snapshots.forked_writer import ForkedWriter
from postjournal.adapters.snapshots.object_store import ObjectStore
from postjournal.adapters.snapshots.upload import SnapshotJob, SnapshotUpload
from postjournal.config.settings import StoreSettings
from postjournal.core import messages as m
from postjournal.core.errors import StoreUnavailable
from tests.support.snapshots import busy_journal


class Writer:
    """Writes what a child process would write."""

    content_size = 7

    def chunks(self) -> Iterator[bytes]:
        yield b"content"

    def close(self) -> None:
        pass


class Emitted(list[m.Message]):
    is_cancelled = False

    def __call__(self, message: m.Message) -> None:
        self.append(message)


class Silent(ObjectStore):
    """Writes a manifest, or does not, and its answer is lost."""

    writes = True
    loses_answers = True

    def create(self, name: str, data: bytes) -> bool:
        written = super().create(name, data) if self.writes else False
        if self.loses_answers:
            raise StoreUnavailable("no answer")
        return written


@pytest.fixture
def objects(tmp_path: Path) -> Silent:
    return Silent(StoreSettings(f"file://{tmp_path}", None, None), 1.0)


@pytest.fixture
def store(objects: Silent) -> SnapshotStore:
    return SnapshotStore(objects, "test")


def take(store: SnapshotStore) -> m.SnapshotProgressed:
    job = SnapshotJob(m.SnapshotRequested("r", "s1", 1), busy_journal().fold().header(), "r")
    emitted = Emitted()
    SnapshotUpload(store, 0, job, cast(ForkedWriter, Writer()), emitted).run()
    last = emitted[-1]
    assert isinstance(last, m.SnapshotProgressed)
    return last


def test_a_manifest_that_may_have_been_written_keeps_its_object(store: SnapshotStore) -> None:
    assert take(store).state == "failed"
    (manifest,) = store.catalogue(0).snapshots
    store.verify(manifest)
    again = take(store)
    assert (again.state, again.sha256) == ("done", manifest.sha256)


def test_an_object_whose_manifest_was_not_written_is_left_to_the_coordinator(
    store: SnapshotStore, objects: Silent
) -> None:
    objects.writes = False
    assert take(store).state == "failed"
    assert store.catalogue(0).snapshots == []
    assert len(store.clean(0, before_ms=2**60)) == 1


def test_a_manifest_without_its_object_is_not_reported_as_done(
    store: SnapshotStore, objects: Silent
) -> None:
    objects.loses_answers = False
    assert take(store).state == "done"
    (manifest,) = store.catalogue(0).snapshots
    store.delete_object(0, manifest.object)
    end = take(store)
    assert (end.state, "is missing" in str(end.error)) == ("failed", True)


def test_a_replica_that_was_not_the_first_reports_what_is_in_the_store(
    store: SnapshotStore, objects: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects.loses_answers = False
    publish = SnapshotStore.publish
    firsts: list[m.SnapshotProgressed] = []

    def late(self: SnapshotStore, manifest: object) -> bool:
        monkeypatch.undo()
        monkeypatch.setattr(Writer, "chunks", lambda self: iter([b"another's"]))
        firsts.append(take(store))
        return publish(self, manifest)  # type: ignore[arg-type]

    monkeypatch.setattr(SnapshotStore, "publish", late)
    second = take(store)
    assert (second.state, second.sha256) == ("done", firsts[0].sha256)
    assert store.clean(0, before_ms=2**60) == []
