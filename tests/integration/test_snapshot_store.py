"""One suite for a directory and a real MinIO: what replicas and coordinator rely on."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from postjournal.adapters.snapshots.catalogue import SnapshotStore
from postjournal.adapters.snapshots.object_store import PART_BYTES, ObjectStore
from postjournal.config.settings import StoreSettings
from postjournal.core.errors import SnapshotDamaged, StoreUnavailable, StoreUnusable
from postjournal.core.snapshot import manifest as manifests
from postjournal.core.snapshot.manifest import Manifest
from tests.support.minio import (
    BUCKET,
    KEY,
    SECRET,
    MinIO,
    Proxy,
    binary,
    refusal,
    success,
)

needs_minio = pytest.mark.skipif(binary() is None, reason="no minio (POSTJOURNAL_MINIO or PATH)")


@pytest.fixture(scope="module")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinIO]:
    server = MinIO(tmp_path_factory.mktemp("minio"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(params=["directory", pytest.param("minio", marks=needs_minio)])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> StoreSettings:
    if request.param == "directory":
        return StoreSettings(f"file://{tmp_path}/a%20place", None, None)
    server: MinIO = request.getfixturevalue("minio")
    return server.settings()


@pytest.fixture
def objects(settings: StoreSettings) -> ObjectStore:
    return ObjectStore(settings, 5.0)


@pytest.fixture
def store(objects: ObjectStore, request: pytest.FixtureRequest) -> SnapshotStore:
    return SnapshotStore(objects, f"test-{abs(hash(request.node.name))}")


def make_manifest(data: bytes, **changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "format": 1,
        "id": "one",
        "object": "object",
        "application": "Ledger",
        "schema_version": 1,
        "shard": 0,
        "shards": 1,
        "epoch": 1,
        "offset": 5,
        "record_digest": "",
        "seq": 3,
        "digest": "00",
        "sources": {},
        "sinks": {},
        "published": {},
        "journal_time": 0,
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "content_size": len(data),
        "replica": "r",
        "time": 0,
        "duration_ms": 1,
    }
    return Manifest(**(fields | changes))


def put(store: SnapshotStore, data: bytes = b"data", **changes: Any) -> Manifest:
    manifest = make_manifest(data, **changes)
    store.write_object(manifest.shard, manifest.object, [data])
    assert store.publish(manifest)
    return manifest


class ChildDied(Exception):
    pass


def parts(count: int, then: Exception | None = None) -> Iterator[bytes]:
    for number in range(count):
        yield bytes([number]) * PART_BYTES
    if then is not None:
        raise then


def test_the_start_up_check_passes_and_leaves_nothing(objects: ObjectStore) -> None:
    objects.check()
    assert objects.list("check") == []


def test_what_was_written_is_read_back(store: SnapshotStore) -> None:
    data = b"".join(parts(3)) + b"the rest"
    manifest = put(store, data)
    assert b"".join(store.read(manifest)) == data
    store.verify(manifest)


def test_an_object_without_a_manifest_is_no_snapshot(store: SnapshotStore) -> None:
    store.write_object(0, "00005-one-x.snapshot.zst", [b"data"])
    assert store.catalogue(0).snapshots == []


def test_an_upload_whose_writer_fails_leaves_nothing(
    store: SnapshotStore, objects: ObjectStore
) -> None:
    with pytest.raises(ChildDied):
        store.write_object(0, "half", parts(5, ChildDied()))
    assert objects.list("") == [] or not [o for o in objects.list("") if "half" in o.name]


def test_a_manifest_is_never_replaced(store: SnapshotStore) -> None:
    first = put(store)
    other = msgspec.structs.replace(first, replica="another")
    assert not store.publish(other)
    assert store.publish(first), "a repeat finds its own"
    assert store.catalogue(0).snapshots == [first]


def test_the_catalogue_is_in_the_order_of_the_journal_newest_first(store: SnapshotStore) -> None:
    for offset in (900, 1_000_000, 5):
        put(store, id=f"at-{offset}", offset=offset, object=f"o{offset}")
    assert [snapshot.offset for snapshot in store.catalogue(0).snapshots] == [1_000_000, 900, 5]
    assert store.catalogue(1).snapshots == []


@pytest.mark.parametrize("damage", ["truncated", "flipped", "swapped", "empty", "gone", "longer"])
def test_damage_is_found_by_reading(
    damage: str, store: SnapshotStore, objects: ObjectStore
) -> None:
    data = b"".join(parts(1)) + b"0123456789"
    manifest = put(store, data)
    other = put(store, data[:-1] + b"x", id="two", object="other")
    bad = {
        "truncated": data[:-3],
        "flipped": data[:5_000] + bytes([data[5_000] ^ 1]) + data[5_001:],
        "swapped": b"".join(store.read(other)),
        "empty": b"",
        "longer": data + b"x",
    }
    path = next(o.name for o in objects.list(store._folder(0)) if o.name.endswith("object"))
    if damage == "gone":
        objects.delete(path)
    else:
        objects.put(path, [bad[damage]] if bad[damage] else [])
    if damage == "longer":  # what is read is what the manifest says
        store.verify(manifest)
    else:
        with pytest.raises(SnapshotDamaged):
            store.verify(manifest)


def test_an_invalid_manifest_is_reported_and_skipped(
    store: SnapshotStore, objects: ObjectStore
) -> None:
    good = put(store)
    folder = store._folder(0)
    objects.put(f"{folder}/{7:020d}-liar.json", [manifests.encode(good)])
    objects.put(f"{folder}/{8:020d}-junk.json", [b"{"])
    newer = msgspec.structs.replace(good, format=2, id="newer")
    objects.put(f"{folder}/{newer.name}", [manifests.encode(newer)])
    found = store.catalogue(0)
    assert found.snapshots == [good]
    reasons = " ".join(found.unusable.values())
    for reason in ("of another", "not a valid manifest", "upgrade this replica"):
        assert reason in reasons


def test_leftovers_are_cleaned_and_snapshots_are_not(
    store: SnapshotStore, objects: ObjectStore
) -> None:
    kept = put(store, object=manifests.object_name(5, "one", "taker"))
    left = manifests.object_name(6, "two", "dead")
    store.write_object(0, left, [b"half"])
    assert store.clean(0, before_ms=0) == [], "it may still be under way"
    later = time.time_ns() // 1_000_000 + 60_000
    assert [name.rpartition("/")[2] for name in store.clean(0, later)] == [left]
    store.verify(kept)


def test_a_deleted_snapshot_leaves_neither_manifest_nor_object(
    store: SnapshotStore, objects: ObjectStore
) -> None:
    manifest = put(store)
    store.delete(manifest)
    store.delete(manifest)
    assert objects.list(store._folder(0)) == []
    assert store.catalogue(0).snapshots == []


def test_a_writer_that_is_killed_leaves_no_name(tmp_path: Path) -> None:
    """In a directory the unfinished file has another name, until it is cleaned."""
    objects = ObjectStore(StoreSettings(f"file://{tmp_path}", None, None))
    store = SnapshotStore(objects, "n")
    (tmp_path / "n" / "shard-0").mkdir(parents=True)
    (tmp_path / "n" / "shard-0" / "name.snapshot.zst#1").write_bytes(b"half")
    assert objects.list("n/shard-0") == []
    later = time.time_ns() // 1_000_000 + 60_000
    assert store.clean(0, later) == ["an unfinished upload"]
    assert list((tmp_path / "n" / "shard-0").iterdir()) == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s4://bucket", "use s3://BUCKET"),
        ("file://relative/path", "use s3://BUCKET"),
        ("s3://bucket?zone=x", "unknown option zone"),
        ("s3://bucket?endpoint=minio:9000", "use http://HOST:PORT"),
    ],
)
def test_a_url_that_cannot_work_is_refused(url: str, words: str) -> None:
    with pytest.raises(StoreUnusable, match=words):
        ObjectStore(StoreSettings(url, None, None))


def test_a_directory_that_cannot_be_created_is_unavailable() -> None:
    with pytest.raises(StoreUnavailable, match="Not a directory"):
        ObjectStore(StoreSettings("file:///dev/null/snapshots", None, None)).check()


# --- a store that makes trouble ------------------------------------------------------------------


@needs_minio
@pytest.mark.parametrize(
    ("access", "words"),
    [
        (("nowhere", KEY, SECRET), "there is no bucket nowhere"),
        ((BUCKET, "nobody", SECRET), "not authorized: InvalidAccessKeyId"),
        ((BUCKET, KEY, "wrong-secret"), "not authorized: SignatureDoesNotMatch"),
    ],
)
def test_the_check_names_the_fault(minio: MinIO, access: tuple[str, str, str], words: str) -> None:
    with pytest.raises(StoreUnusable, match=words):
        ObjectStore(minio.settings(None, *access), 2.0).check()


def test_an_unavailable_store_is_reported_in_time() -> None:
    url = "s3://bucket?endpoint=http://127.0.0.1:9"
    with pytest.raises(StoreUnavailable, match="no answer"):
        ObjectStore(StoreSettings(url, "k", "s"), 0.5).check()


@pytest.fixture
def proxy(minio: MinIO) -> Iterator[Proxy]:
    proxy = Proxy(minio.port)
    yield proxy
    proxy.close()


@needs_minio
@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (refusal("403 Forbidden", "AccessDenied", "no"), StoreUnusable, "AccessDenied: no"),
        (refusal("507 Full", "XMinioStorageFull", "full"), StoreUnavailable, "XMinioStorageFull"),
    ],
)
def test_a_store_that_denies_or_is_full_is_unavailable(
    minio: MinIO, proxy: Proxy, answer: bytes, error: type[Exception], words: str
) -> None:
    objects = ObjectStore(minio.settings(proxy.port), 0.5)
    proxy.answer = answer
    with pytest.raises(error, match=words):
        objects.check()


@needs_minio
def test_a_store_without_conditional_put_is_refused(minio: MinIO, proxy: Proxy) -> None:
    proxy.answer = success()
    with pytest.raises(StoreUnusable, match="ignores If-None-Match"):
        ObjectStore(minio.settings(proxy.port), 0.5).check()


@needs_minio
def test_an_upload_survives_a_short_outage_of_the_store(minio: MinIO, proxy: Proxy) -> None:
    objects = ObjectStore(minio.settings(proxy.port), 30.0)
    proxy.bytes_left = PART_BYTES + PART_BYTES // 2

    def repair() -> None:
        while proxy.broken < 4:
            time.sleep(0.01)
        proxy.bytes_left = None

    threading.Thread(target=repair, daemon=True).start()
    store = SnapshotStore(objects, "moment")
    written = store.write_object(0, "big", parts(4))
    assert proxy.broken >= 4
    data = b"".join(parts(4))
    assert written.sha256 == hashlib.sha256(data).hexdigest()
    assert b"".join(objects.read("moment/shard-0/big", written.size)) == data


@needs_minio
def test_an_upload_to_a_store_that_stays_unavailable_fails_and_leaves_nothing(
    minio: MinIO, proxy: Proxy
) -> None:
    objects = ObjectStore(minio.settings(proxy.port), 1.0)
    proxy.bytes_left = PART_BYTES + PART_BYTES // 2
    with pytest.raises(StoreUnavailable):
        SnapshotStore(objects, "away").write_object(0, "big", parts(4))
    assert ObjectStore(minio.settings()).list("away/shard-0") == []


@needs_minio
def test_a_killed_minio_leaves_nothing_broken(tmp_path: Path) -> None:
    server = MinIO(tmp_path)
    server.start()
    store = SnapshotStore(ObjectStore(server.settings(), 1.0), "killed")
    kept = put(store)

    def until_killed() -> Iterator[bytes]:
        yield from parts(2)
        server.kill()
        yield from parts(2)

    with pytest.raises(StoreUnavailable):
        store.write_object(0, "half", until_killed())
    server.start()
    assert store.catalogue(0).snapshots == [kept]
    store.verify(kept)
    again = put(store, b"".join(parts(4)), id="again", offset=9, object="whole")
    store.verify(again)
    server.kill()
