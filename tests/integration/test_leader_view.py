"""The leader view as a process, on a real Kafka and a real Redis."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from postjournal.adapters.redis.client import connect
from postjournal.adapters.redis.cluster_view import MAX_LENGTH, RedisView, ViewContents
from postjournal.cluster.status import Failover
from postjournal.config.settings import RedisAccess
from tests.support.services import eventually, publish_status, replica_status, running
from tests.support.topics import make_topics

pytestmark = pytest.mark.kafka

SERVICE = "services.leader_view"


class View:
    """What Redis holds."""

    def __init__(self, url: str, namespace: str) -> None:
        self.redis: Any = connect(RedisAccess(url))
        self._namespace = namespace

    @property
    def shard(self) -> dict[str, str]:
        return dict(self.redis.hgetall(f"{self._namespace}:shard:0"))

    def replica(self, field: str) -> dict[str, Any]:
        value = self.redis.hget(f"{self._namespace}:replicas", field)
        found: dict[str, Any] = msgspec.json.decode(value) if value else {}
        return found

    @property
    def failovers(self) -> list[tuple[str, dict[str, str]]]:
        return list(self.redis.xrange(f"{self._namespace}:failovers"))

    def wipe(self) -> None:
        self.redis.delete(*self.redis.keys(f"{self._namespace}:*"))

    def listen(self) -> Any:
        channel = self.redis.pubsub(ignore_subscribe_messages=True)
        channel.subscribe(f"{self._namespace}:changes")
        self.messages(channel)
        return channel

    def messages(self, channel: Any) -> list[Any]:
        """All that was published before now: what comes before a mark of our own."""
        mark = uuid.uuid4().hex
        while not self.redis.publish(f"{self._namespace}:changes", mark):
            time.sleep(0.01)  # the subscription is on its way
        found: list[Any] = []
        while not found or found[-1]["data"] != mark:
            message = channel.get_message(timeout=1)
            found += [] if message is None else [message]
        return found[:-1]


@pytest.fixture
def namespace(kafka: str) -> str:
    name = f"test-{uuid.uuid4().hex[:8]}"
    make_topics(kafka, name)
    return name


@pytest.fixture
def view(redis_server: str, namespace: str) -> View:
    return View(redis_server, namespace)


@pytest.fixture
def environment(kafka: str, redis_server: str, namespace: str) -> dict[str, str]:
    return {
        "POSTJOURNAL_BOOTSTRAP": kafka,
        "POSTJOURNAL_NAMESPACE": namespace,
        "POSTJOURNAL_REDIS_URL": redis_server,
    }


def failover(epoch: int, time_ms: int) -> Failover:
    return Failover(
        shard=0,
        epoch=epoch,
        previous="r1",
        leader="r2",
        cause="tripwire",
        detect_ms=3.0,
        claim_ms=4.0,
        resume_ms=5.0,
        total_ms=12.0,
        time=time_ms,
    )


def test_the_view_shows_leaders_and_replicas(
    kafka: str, namespace: str, environment: dict[str, str], view: View, tmp_path: Path
) -> None:
    publish_status(kafka, namespace, replica_status("r1", "leader", 1, "r1"), failover(1, 50))
    with running(SERVICE, tmp_path / "log", **environment) as service:
        eventually(lambda: view.shard["leader"] == "r1")
        changes = view.listen()
        publish_status(kafka, namespace, replica_status("r2", "leader", 2, "r2"), failover(2, 60))
        publish_status(kafka, namespace, replica_status("r1", "leader", 1, "r1"))
        eventually(lambda: view.shard["leader"] == "r2")
        eventually(lambda: [key for key, _ in view.failovers] == ["50-1000", "60-2000"])
        assert view.shard["epoch"] == "2"
        assert view.replica("r1/0")["state"] == "leader"  # what the zombie says of itself
        published = [msgspec.json.decode(message["data"]) for message in view.messages(changes)]
        assert {"shard", "replica", "failover"} <= {change["kind"] for change in published}
        assert service.terminate() == 0


def test_a_wiped_redis_is_filled_again_without_new_records(
    kafka: str, namespace: str, environment: dict[str, str], view: View, tmp_path: Path
) -> None:
    publish_status(kafka, namespace, replica_status("r1", "leader", 1, "r1"), failover(1, 50))
    with running(SERVICE, tmp_path / "log", **environment):
        eventually(lambda: len(view.failovers) == 1)
        before = view.shard
        view.wipe()
        eventually(lambda: view.shard == before and len(view.failovers) == 1)


def test_a_restart_reports_no_failover_twice(
    kafka: str, namespace: str, environment: dict[str, str], view: View, tmp_path: Path
) -> None:
    publish_status(kafka, namespace, failover(1, 50), failover(2, 60), failover(2, 60))
    for _ in range(2):
        with running(SERVICE, tmp_path / "log", **environment) as service:
            eventually(lambda: len(view.failovers) == 2)
            service.kill()
    publish_status(kafka, namespace, failover(3, 70))
    with running(SERVICE, tmp_path / "log", **environment):
        eventually(lambda: [fields["epoch"] for _, fields in view.failovers] == ["1", "2", "3"])


def test_two_processes_with_one_name_are_warned_of_and_marked(
    kafka: str, namespace: str, environment: dict[str, str], view: View, tmp_path: Path
) -> None:
    with running(SERVICE, tmp_path / "log", **environment) as service:

        def is_marked() -> bool:
            """While they speak: seconds after it, both of them may be gone."""
            for incarnation in ("one", "two"):
                status = replica_status("r1", "standby", 0, None, incarnation=incarnation)
                publish_status(kafka, namespace, status)
            return bool(view.replica("r1/0").get("duplicate_name"))

        eventually(is_marked)
        assert "two running processes have the replica name r1" in service.log


def test_without_kafka_and_topics_the_view_waits_and_ends_quickly(
    environment: dict[str, str], tmp_path: Path
) -> None:
    away = environment | {"POSTJOURNAL_BOOTSTRAP": "127.0.0.1:1"}
    with running(SERVICE, tmp_path / "log", **away) as service:
        eventually(lambda: "no broker answers" in service.log)
        assert service.terminate() == 0


def test_a_wrong_number_of_shards_is_a_configuration_error(
    environment: dict[str, str], tmp_path: Path
) -> None:
    wrong = environment | {"POSTJOURNAL_SHARDS": "3"}
    with running(SERVICE, tmp_path / "log", **wrong) as service:
        assert service.process.wait(120) == 78
    assert "has 1 partitions but POSTJOURNAL_SHARDS is 3" in service.log


# --- the store on a real Redis --------------------------------------------------------------


@pytest.fixture
def store(redis_server: str, namespace: str) -> RedisView:
    return RedisView(connect(RedisAccess(redis_server)), namespace)


def entries(*numbers: int) -> ViewContents:
    return ViewContents({}, {}, [(f"{n}-0", {"epoch": str(n)}) for n in numbers])


def test_a_failover_of_an_earlier_time_is_inserted_in_order(store: RedisView, view: View) -> None:
    store.sync(entries(5, 9))
    store.sync(entries(5, 7, 9))
    assert [key for key, _ in view.failovers] == ["5-0", "7-0", "9-0"]


def test_the_stream_keeps_its_last_thousand(store: RedisView, view: View) -> None:
    store.sync(entries(*range(1, MAX_LENGTH + 1)))
    store.sync(entries(*range(3, MAX_LENGTH + 3)))
    keys = [key for key, _ in view.failovers]
    assert (len(keys), keys[0], keys[-1]) == (MAX_LENGTH, "3-0", f"{MAX_LENGTH + 2}-0")


def test_a_removed_replica_is_deleted_from_the_hash(store: RedisView, view: View) -> None:
    store.sync(ViewContents({}, {"r1/0": {"state": "standby"}, "r2/0": {"state": "leader"}}, []))
    store.sync(ViewContents({}, {"r2/0": {"state": "leader"}}, []))
    assert view.replica("r1/0") == {}
    assert view.replica("r2/0") == {"state": "leader"}


def test_what_another_client_has_written_over_a_replica_is_replaced(
    store: RedisView, view: View, namespace: str
) -> None:
    view.redis.hset(f"{namespace}:replicas", "r1/0", "rubbish")
    changes = view.listen()
    store.sync(ViewContents({}, {"r1/0": {"state": "standby"}}, []))
    assert view.replica("r1/0") == {"state": "standby"}
    assert len(view.messages(changes)) == 1


def test_only_what_has_changed_is_published(store: RedisView, view: View) -> None:
    shard = {"leader": "r1", "epoch": "1", "state": "leader", "seq": "5"}
    store.sync(ViewContents({0: shard}, {}, []))
    changes = view.listen()
    store.sync(ViewContents({0: shard | {"seq": "6"}}, {}, []))
    assert view.messages(changes) == []
    store.sync(ViewContents({0: shard | {"leader": "r2", "epoch": "2"}}, {}, []))
    assert len(view.messages(changes)) == 1
    assert view.shard["leader"] == "r2"


def test_a_stream_that_another_instance_has_written_is_read_again(
    store: RedisView, view: View, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = RedisView._stream

    def overtaken(self: RedisView, pipe: Any) -> tuple[str, int]:
        found = read(self, pipe)
        view.redis.xadd(f"{namespace}:failovers", {"epoch": "1"}, id="1-0")
        return found

    monkeypatch.setattr(RedisView, "_stream", overtaken)
    with pytest.raises(redis.WatchError):
        store.sync(entries(1))
    monkeypatch.undo()
    store.sync(entries(1))
    assert len(view.failovers) == 1
