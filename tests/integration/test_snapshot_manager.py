"""Taking and restoring over a real store, with the real fork: the `Snapshots` port."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from postjournal.adapters.process.wakeup import Wakeup
from postjournal.adapters.snapshots import manager
from postjournal.adapters.snapshots.catalogue import SnapshotStore
from postjournal.adapters.snapshots.manager import Restorer, SnapshotManager, Stores
from postjournal.adapters.snapshots.object_store import ObjectStore
from postjournal.config.settings import StoreSettings
from postjournal.core import messages as m
from postjournal.core.errors import JournalUnavailable, RecordsMissing, SnapshotMismatch
from postjournal.core.sharding import ShardPlace
from postjournal.ledger import Ledger
from postjournal.recovery import codec as snapshot_codec
from tests.support.minio import MinIO, Proxy, binary
from tests.support.snapshots import WINDOW, AnyImage, Journal, busy_journal, content_of

needs_minio = pytest.mark.skipif(binary() is None, reason="no minio (POSTJOURNAL_MINIO or PATH)")


@pytest.fixture(scope="module")
def journal() -> Journal:
    return busy_journal()


@pytest.fixture(scope="module")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinIO]:
    server = MinIO(tmp_path_factory.mktemp("minio"))
    server.start()
    yield server
    server.kill()


@dataclass
class Probe:
    """A probe of a journal in memory."""

    values: list[bytes]
    begin: int = 0
    is_away: bool = False

    def bounds(self) -> tuple[int, int]:
        if self.is_away:
            raise JournalUnavailable("Kafka is unavailable")
        return self.begin, len(self.values)

    def value(self, offset: int) -> bytes | None:
        return self.values[offset] if offset >= self.begin else None

    def close(self) -> None:
        pass


class SnapshotPorts:
    """One shard's port over one store."""

    def __init__(self, settings: StoreSettings | None, journal: Journal, timeout_s: float) -> None:
        self.probe = Probe(journal.values)
        self.store = self.stores = None
        if settings is not None:
            self.store = SnapshotStore(ObjectStore(settings, timeout_s), "test")
            self.stores = Stores(self.store, self.store)
        self.port = self.another()

    def another(self, replica: str = "r", window: int = WINDOW) -> SnapshotManager:
        load = partial(
            snapshot_codec.restore,
            application=Ledger(),
            place=ShardPlace(0, 1),
            dedupe_window=window,
        )
        restorer = Restorer(lambda: self.probe, load)
        return SnapshotManager(0, replica, self.stores, restorer, Wakeup())

    def messages(self, port: SnapshotManager | None = None, last: str = "") -> list[Any]:
        """All messages of the port up to a final one."""
        received: list[Any] = []
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            for message in (port or self.port).poll():
                received.append(message)
                state = getattr(message, "state", "restored")
                if state in ("done", "failed", "restored", last):
                    return received
            time.sleep(0.005)
        raise AssertionError(f"nothing final came: {received}")

    def take(self, image: AnyImage, snapshot_id: str = "s1") -> m.SnapshotProgressed:
        self.port.take(m.SnapshotRequested("r", snapshot_id, 1), image)
        end: m.SnapshotProgressed = self.messages()[-1]
        return end

    def restore(self, port: SnapshotManager | None = None) -> AnyImage | None:
        (port or self.port).restore()
        restored: m.Restored = self.messages(port)[-1]
        return restored.image

    @property
    def ids(self) -> list[str]:
        assert self.store is not None
        return [snapshot.id for snapshot in self.store.catalogue(0).snapshots]


@pytest.fixture(params=["directory", pytest.param("minio", marks=needs_minio)])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> StoreSettings:
    if request.param == "directory":
        return StoreSettings(f"file://{tmp_path}", None, None)
    server: MinIO = request.getfixturevalue("minio")
    made = server.settings()
    unique = made.url.replace("some/prefix", request.node.name.partition("[")[0])
    return StoreSettings(unique, made.key_id, made.secret)


@pytest.fixture
def ports(settings: StoreSettings, journal: Journal) -> SnapshotPorts:
    return SnapshotPorts(settings, journal, timeout_s=2.0)


def test_what_is_taken_is_restored_to_the_byte(ports: SnapshotPorts, journal: Journal) -> None:
    image = journal.fold(end=30)
    end = ports.take(image)
    assert (end.state, end.offset, end.seq) == ("done", 29, image.journal.next_seq)
    restored = ports.restore()
    assert restored is not None
    assert content_of(restored) == content_of(journal.fold(end=30))
    assert content_of(journal.fold(restored)) == content_of(journal.fold())


def test_the_manifest_agrees_with_the_image(ports: SnapshotPorts, journal: Journal) -> None:
    end = ports.take(journal.fold(end=30))
    assert ports.store is not None
    (manifest,) = ports.store.catalogue(0).snapshots
    header = journal.fold(end=30).header()
    assert (manifest.offset, manifest.seq, manifest.digest) == (29, header.next_seq, header.digest)
    assert (manifest.sha256, manifest.size) == (end.sha256, end.size)
    assert manifest.content_size == len(content_of(journal.fold(end=30)))
    assert (manifest.replica, manifest.journal_time) == ("r", header.time)


def test_the_newest_is_restored(ports: SnapshotPorts, journal: Journal) -> None:
    for number, end in enumerate((10, 30, 20)):
        assert ports.take(journal.fold(end=end), f"s{number}").state == "done"
    restored = ports.restore()
    assert restored is not None
    assert restored.offset == 29


def test_a_snapshot_that_exists_already_is_not_taken_again(
    ports: SnapshotPorts, journal: Journal
) -> None:
    first = ports.take(journal.fold(end=10))
    again = ports.take(journal.fold(end=30))
    assert (again.state, again.sha256) == ("done", first.sha256)
    assert ports.ids == ["s1"]


def test_two_replicas_taking_the_same_snapshot_leave_one(
    ports: SnapshotPorts, journal: Journal
) -> None:
    rivals = [ports.another("a"), ports.another("b")]
    for port in rivals:
        port.take(m.SnapshotRequested("r", "s1", 1), journal.fold(end=10))
    assert [ports.messages(port)[-1].state for port in rivals] == ["done", "done"]
    assert ports.ids == ["s1"]
    assert ports.restore() is not None


class Failing(Ledger):
    """Its dump fails halfway."""

    @property
    def name(self) -> str:
        return "Ledger"

    def dump(self, state: dict[str, int]) -> Iterable[bytes]:
        yield b"{}"
        raise ValueError("cannot be written")


def test_a_snapshot_that_fails_is_never_listed(ports: SnapshotPorts, journal: Journal) -> None:
    image = journal.fold(end=10)
    image.machine.application = Failing()
    end = ports.take(image)
    assert end.state == "failed"
    assert "cannot be written" in str(end.error)
    assert ports.ids == []
    assert ports.take(journal.fold(end=10), "s2").state == "done"


class Slow(Ledger):
    """Its dump lasts until it is stopped."""

    @property
    def name(self) -> str:
        return "Ledger"

    def dump(self, state: dict[str, int]) -> Iterable[bytes]:
        for _ in range(2_000):
            time.sleep(0.01)
            yield b" "
        yield from super().dump(state)


def test_a_snapshot_that_is_given_up_reports_nothing_and_leaves_nothing(
    ports: SnapshotPorts, journal: Journal
) -> None:
    image = journal.fold(end=10)
    image.machine.application = Slow()
    ports.port.take(m.SnapshotRequested("r", "s1", 1), image)
    assert ports.messages(last="writing")[-1].state == "writing"
    ports.port.cancel()
    assert ports.take(journal.fold(end=20), "s2").state == "done"
    assert ports.port.poll() == []
    assert ports.ids == ["s2"]


def test_a_damaged_snapshot_is_skipped(
    ports: SnapshotPorts, journal: Journal, settings: StoreSettings
) -> None:
    ports.take(journal.fold(end=10), "old")
    ports.take(journal.fold(end=20), "new")
    assert ports.store is not None
    (new, _) = ports.store.catalogue(0).snapshots
    objects = ObjectStore(settings, 2.0)
    objects.put(f"test/shard-0/{new.object}", [b"something else"])
    restored = ports.restore()
    assert restored is not None
    assert restored.snapshot_id == "old"


def test_a_manifest_without_its_object_is_skipped(
    ports: SnapshotPorts, journal: Journal, settings: StoreSettings
) -> None:
    ports.take(journal.fold(end=10), "old")
    ports.take(journal.fold(end=20), "new")
    assert ports.store is not None
    (new, _) = ports.store.catalogue(0).snapshots
    ObjectStore(settings, 2.0).delete(f"test/shard-0/{new.object}")
    restored = ports.restore()
    assert restored is not None
    assert restored.snapshot_id == "old"


def test_without_a_store_the_journal_is_read_and_no_snapshot_taken(journal: Journal) -> None:
    ports = SnapshotPorts(None, journal, 1.0)
    assert ports.restore() is None
    assert "POSTJOURNAL_SNAPSHOT_URL" in str(ports.take(journal.fold()).error)


def test_a_trimmed_journal_without_a_snapshot_halts(ports: SnapshotPorts) -> None:
    ports.probe.begin = 5
    ports.port.restore()
    with pytest.raises(RecordsMissing, match="begins at offset 5"):
        ports.messages()


def test_another_configuration_halts(ports: SnapshotPorts, journal: Journal) -> None:
    ports.take(journal.fold(end=10))
    port = ports.another(window=WINDOW + 1)
    port.restore()
    with pytest.raises(SnapshotMismatch, match="POSTJOURNAL_DEDUPE_WINDOW"):
        ports.messages(port)


def test_a_restore_waits_for_kafka(ports: SnapshotPorts, journal: Journal) -> None:
    ports.take(journal.fold(end=10))
    ports.probe.is_away = True
    ports.port.restore()
    time.sleep(0.7)
    assert ports.port.poll() == []
    ports.probe.is_away = False
    assert ports.messages()[-1].image.offset == 9


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager, "STORE_TIMEOUT_S", 0.5)


def broken(tmp_path: Path) -> Callable[[], None]:
    """Make the store unavailable; the function returned makes it available again."""
    (tmp_path / "disk").write_text("no directory")

    def repair() -> None:
        (tmp_path / "disk").unlink()

    return repair


@pytest.mark.usefixtures("short_timeouts")
def test_a_store_that_stays_unavailable_costs_only_time(tmp_path: Path, journal: Journal) -> None:
    broken(tmp_path)
    ports = SnapshotPorts(StoreSettings(f"file://{tmp_path}/disk", None, None), journal, 0.2)
    assert ports.restore() is None


@pytest.mark.usefixtures("short_timeouts")
def test_a_restore_waits_for_the_store_where_the_journal_is_trimmed(
    tmp_path: Path, journal: Journal
) -> None:
    repair = broken(tmp_path)
    ports = SnapshotPorts(StoreSettings(f"file://{tmp_path}/disk", None, None), journal, 0.2)
    ports.probe.begin = 5
    ports.port.restore()
    time.sleep(1.5)
    assert ports.port.poll() == []
    repair()
    with pytest.raises(RecordsMissing):  # it is there, and empty
        ports.messages()


@needs_minio
def test_a_snapshot_survives_a_short_outage_of_the_store(minio: MinIO, journal: Journal) -> None:
    proxy = Proxy(minio.port)
    made = minio.settings(proxy.port)
    url = made.url.replace("some/prefix", "moment")
    ports = SnapshotPorts(StoreSettings(url, made.key_id, made.secret), journal, timeout_s=20.0)
    proxy.bytes_left = 0
    threading.Timer(1.0, lambda: setattr(proxy, "bytes_left", None)).start()
    assert ports.take(journal.fold(end=10)).state == "done"
    assert proxy.broken > 0
    proxy.close()


@needs_minio
def test_a_store_that_hangs_fails_the_snapshot_and_nothing_else(
    tmp_path: Path, journal: Journal
) -> None:
    server = MinIO(tmp_path)
    server.start()
    ports = SnapshotPorts(server.settings(), journal, timeout_s=1.0)
    server.kill()
    end = ports.take(journal.fold(end=10))
    assert end.state == "failed"
    assert "no answer" in str(end.error)
    server.start()
    assert ports.ids == []
    assert ports.take(journal.fold(end=10), "s2").state == "done"
    server.kill()
