"""The coordinator's HTTP and what it does by itself, over a real store in a directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client import generate_latest

from postjournal.cluster.status import Handover, SnapshotOrder, SnapshotProgress
from tests.support.coordinator import Setup, make_manifest, replica_status

MINUTE = 60_000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Setup]:
    made = Setup(tmp_path)
    made.replicas(a="leader", b="standby", c="standby")
    made.maintenance.turn()
    yield made
    made.close()


@pytest.fixture
def client(world: Setup) -> FlaskClient:
    return world.client()


def progress(snapshot_id: str, state: str, **changes: Any) -> SnapshotProgress:
    fields: dict[str, Any] = {
        "id": snapshot_id,
        "shard": 0,
        "replica": "b",
        "incarnation": "b-1",
        "attempt": 1,
        "state": state,
        "time": 0,
    }
    return SnapshotProgress(**(fields | changes))


def body(answer: Any) -> Any:
    return answer.json


def problem(answer: Any) -> tuple[int, str]:
    return answer.status_code, body(answer)["type"].rpartition(":")[2]


# --- asking --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/v1/snapshots", "/api/v1/snapshot"])
def test_a_snapshot_is_ordered_of_a_standby(client: FlaskClient, world: Setup, path: str) -> None:
    answer = client.post(path)
    assert answer.status_code == 202
    (order,) = world.control.records
    assert (order.id, order.replica, order.attempt) == (body(answer)["id"], "b", 1)
    assert answer.headers["Location"] == f"/api/v1/snapshots/{order.id}"
    told = body(client.get(answer.headers["Location"]))
    assert (told["state"], told["snapshots"][0]["replica"]) == ("ordered", "b")


def test_one_that_is_under_way_tells_how_far_it_is(client: FlaskClient, world: Setup) -> None:
    world.snapshot(3, b"x" * 1_000)
    snapshot_id = body(client.post("/api/v1/snapshots"))["id"]
    world.report(progress(snapshot_id, "writing", written=500, offset=9, seq=20, epoch=1))
    row = body(client.get(f"/api/v1/snapshots/{snapshot_id}"))["snapshots"][0]
    assert (row["state"], row["progress"], row["offset"], row["seq"]) == ("writing", 0.45, 9, 20)
    world.report(progress(snapshot_id, "verifying", read_back=50, size=100))
    row = body(client.get(f"/api/v1/snapshots/{snapshot_id}"))["snapshots"][0]
    assert (row["state"], row["progress"]) == ("verifying", 0.95)


def test_one_that_is_done_is_told_from_its_manifest(client: FlaskClient, world: Setup) -> None:
    manifest = world.snapshot(7, id="mine", size=4)
    row = body(client.get("/api/v1/snapshots/mine"))["snapshots"][0]
    assert row["state"] == "done"
    for name in ("offset", "seq", "epoch", "sha256", "size", "replica", "duration_ms"):
        assert row[name] == getattr(manifest, name)
    assert [each["id"] for each in body(client.get("/api/v1/snapshots"))["snapshots"]] == ["mine"]


def test_the_same_id_asked_twice_is_one_snapshot(client: FlaskClient, world: Setup) -> None:
    headers = {"Idempotency-Key": "nightly-1"}
    first = client.post("/api/v1/snapshots", headers=headers)
    again = client.post("/api/v1/snapshots", headers=headers)
    assert (first.status_code, again.status_code) == (202, 202)
    assert body(first)["id"] == body(again)["id"] == "nightly-1"
    assert len(world.control.records) == 1


def test_an_id_that_is_done_is_not_taken_again(client: FlaskClient, world: Setup) -> None:
    world.snapshot(7, id="mine")
    answer = client.post("/api/v1/snapshots", headers={"Idempotency-Key": "mine"})
    assert answer.status_code == 202
    assert body(answer)["snapshots"][0]["state"] == "done"
    assert world.control.records == []


def test_without_a_standby_it_is_refused_unless_the_leader_may(tmp_path: Path) -> None:
    world = Setup(tmp_path)
    world.replicas(a="leader")
    client = world.client()
    refused = client.post("/api/v1/snapshots")
    assert problem(refused) == (409, "no-standby")
    assert "Retry-After" in refused.headers
    assert client.post("/api/v1/snapshots", json={"allow_leader": True}).status_code == 202
    assert world.control.records[0].replica == "a"


def test_all_shards_or_one(tmp_path: Path) -> None:
    world = Setup(tmp_path, shards=2)
    client = world.client()
    world.replicas(0, a="leader", b="standby")
    assert problem(client.post("/api/v1/snapshots")) == (409, "no-standby")
    assert world.control.records == [], "none of them when one cannot be taken"
    world.replicas(1, a="standby", b="leader")
    both = body(client.post("/api/v1/snapshots"))
    assert [(row["shard"], row["replica"]) for row in both["snapshots"]] == [(0, "b"), (1, "a")]
    assert client.post("/api/v1/snapshots", json={"shard": 1}).status_code == 202
    assert problem(client.post("/api/v1/snapshots", json={"shard": 2})) == (404, "not-found")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ({"data": "{", "content_type": "application/json"}, 400),
        ({"json": {"shard": "0"}}, 400),
        ({"json": {"shards": 0}}, 400),
        ({"data": "shard=0", "content_type": "application/x-www-form-urlencoded"}, 415),
        ({"headers": {"Idempotency-Key": "no/slash"}}, 400),
        ({"data": b"x" * 20_000, "content_type": "application/json"}, 413),
    ],
)
def test_a_bad_request_is_refused(
    client: FlaskClient, world: Setup, arguments: dict[str, Any], status: int
) -> None:
    answer = client.post("/api/v1/snapshots", **arguments)
    assert answer.status_code == status
    assert answer.mimetype == "application/problem+json"
    assert world.control.records == []


def test_an_unknown_snapshot_is_not_found(client: FlaskClient) -> None:
    assert problem(client.get("/api/v1/snapshots/nope")) == (404, "unknown-snapshot")


def test_without_kafka_nothing_is_promised(client: FlaskClient, world: Setup) -> None:
    world.control.is_unavailable = True
    assert problem(client.post("/api/v1/snapshots")) == (503, "unavailable")
    world.follower.trouble = "Kafka is away"
    assert problem(client.post("/api/v1/snapshots")) == (503, "unavailable")
    assert problem(client.get("/readyz")) == (503, "unavailable")
    assert client.get("/livez").status_code == 200


# --- the token -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/v1/snapshots", "/api/v1/snapshot", "/api/v1/handover"])
@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic right", "right", "Bearer "])
def test_what_changes_the_system_needs_the_token(
    world: Setup, path: str, header: str | None
) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = world.client("right").post(path, headers=headers)
    assert problem(answer) == (401, "unauthorized")
    assert world.control.records == []


def test_with_the_token_it_works_and_reading_needs_none(world: Setup) -> None:
    client = world.client("right")
    headers = {"Authorization": "Bearer right"}
    assert client.post("/api/v1/snapshots", headers=headers).status_code == 202
    for path in ("/api/v1/snapshots", "/api/v1/cluster", "/livez", "/readyz"):
        assert client.get(path).status_code == 200


# --- handover, cluster ---------------------------------------------------------------------------


def test_a_handover_is_asked_of_the_leader(client: FlaskClient, world: Setup) -> None:
    answer = client.post("/api/v1/handover", json={"successor": "c"})
    assert (answer.status_code, body(answer)["leader"]) == (202, "a")
    (asked,) = world.control.records
    assert isinstance(asked, Handover)
    assert asked.successor == "c"
    assert problem(client.post("/api/v1/handover", json={"successor": "x"})) == (409, "no-standby")


def test_without_a_leader_or_a_standby_there_is_no_handover(tmp_path: Path) -> None:
    world = Setup(tmp_path)
    assert problem(world.client().post("/api/v1/handover")) == (409, "no-leader")
    world.replicas(a="leader")
    assert problem(world.client().post("/api/v1/handover")) == (409, "no-standby")


def test_the_cluster_is_told_as_the_status_topic_has_it(client: FlaskClient) -> None:
    told = body(client.get("/api/v1/cluster"))
    assert told["shards"]["0"]["leader"] == "a"
    states = {each["replica"]: each["state"] for each in told["replicas"]}
    assert states == {"a": "leader", "b": "standby", "c": "standby"}


# --- by itself -----------------------------------------------------------------------------------


def test_another_standby_is_asked_when_one_fails(client: FlaskClient, world: Setup) -> None:
    snapshot_id = body(client.post("/api/v1/snapshots"))["id"]
    world.report(progress(snapshot_id, "failed", error="disk full"))
    world.maintenance.turn()
    assert [(o.replica, o.attempt) for o in world.control.records] == [("b", 1), ("c", 2)]


def test_a_coordinator_that_starts_in_the_middle_goes_on(client: FlaskClient, world: Setup) -> None:
    snapshot_id = body(client.post("/api/v1/snapshots"))["id"]
    world.report(progress(snapshot_id, "failed", error="disk full"))
    restarted = world.another()
    restarted.turn()
    assert [o.replica for o in world.control.records] == ["b", "c"]


def test_a_restarted_coordinator_orders_nothing_again_that_it_knows_no_end_of(
    tmp_path: Path,
) -> None:
    """The control topic may reach further back than the status topic is read."""
    world = Setup(tmp_path, minutes=10, trim=True)
    world.replicas(a="leader", b="standby", c="standby")
    now = world.clock()
    kept = [world.snapshot(offset, time=now) for offset in range(27, 37)]
    for number in range(1, 37):
        asked = now - (37 - number) * 10 * MINUTE
        order = SnapshotOrder(
            id=f"at-{number}", shard=0, replica="b", attempt=1, asked=asked, time=asked
        )
        world.control.seen = asked
        world.control.append(order)
    world.control.records.clear()
    world.maintenance.turn()
    assert world.control.records == []
    assert len(world.status.records) == 3, "nothing is called given up"
    assert world.offsets() == [each.offset for each in reversed(kept)]
    world.now = world.control.seen = world.status.seen = now + 11 * MINUTE
    world.replicas(a="leader", b="standby")
    world.maintenance.turn()
    assert [each.attempt for each in world.control.records] == [1], "the schedule goes on"


def test_a_retry_is_not_made_of_what_is_in_the_store(client: FlaskClient, world: Setup) -> None:
    """The record that says so is lost, or has not been read yet."""
    snapshot_id = body(client.post("/api/v1/snapshots"))["id"]
    world.snapshot(7, id=snapshot_id)
    world.report(progress(snapshot_id, "failed", error="it was not told whether it was stored"))
    world.maintenance.turn()
    assert len(world.control.records) == 1
    assert world.cluster_state.look(lambda _, jobs: jobs.open_jobs()) == []
    assert body(client.get(f"/api/v1/snapshots/{snapshot_id}"))["state"] == "done"


def test_two_coordinators_at_once_order_one_next_attempt(client: FlaskClient, world: Setup) -> None:
    snapshot_id = body(client.post("/api/v1/snapshots"))["id"]
    world.report(progress(snapshot_id, "failed", error="x"))
    second = world.another()
    world.maintenance.turn()
    second.turn()
    assert [(o.replica, o.attempt) for o in world.control.records] == [("b", 1), ("c", 2)]


def test_what_is_given_up_is_told_with_its_reason(client: FlaskClient, world: Setup) -> None:
    snapshot_id = body(client.post("/api/v1/snapshots"))["id"]
    for attempt in range(1, 9):
        failed = progress(snapshot_id, "failed", attempt=attempt, error="no", replica="b")
        order = SnapshotOrder(
            id=snapshot_id, shard=0, replica="b", attempt=attempt, asked=0, time=0
        )
        world.control.append(order)
        world.report(failed)
    world.maintenance.turn()
    row = body(client.get(f"/api/v1/snapshots/{snapshot_id}"))["snapshots"][0]
    assert row["state"] == "failed"
    assert "b: no" in row["error"]


def test_a_schedule_asks_once_whoever_looks(tmp_path: Path) -> None:
    world = Setup(tmp_path, minutes=10)
    world.replicas(a="leader", b="standby")
    world.snapshot(5, time=world.clock() - 11 * MINUTE)
    second = world.another()
    world.maintenance.turn()
    second.turn()
    world.maintenance.turn()
    assert len(world.control.records) == 1


def test_many_commands_make_a_snapshot_due(tmp_path: Path) -> None:
    world = Setup(tmp_path, commands=1_000)
    world.snapshot(5, seq=10)
    world.report(replica_status("b"), replica_status("a", "leader", seq=1_009))
    world.maintenance.turn()
    assert world.control.records == []
    world.report(replica_status("a", "leader", seq=1_010))
    world.now = world.clock() + 3_000
    world.maintenance._tidy_due = 0
    world.maintenance.turn()
    assert len(world.control.records) == 1


def test_the_last_ones_are_kept_and_one_that_is_being_read(tmp_path: Path) -> None:
    world = Setup(tmp_path, keep=2)
    for offset in (1, 2, 3, 4, 5):
        world.snapshot(offset)
    world.report(replica_status("c", "restoring", snapshot="at-2"))
    world.maintenance.turn()
    assert world.offsets() == [5, 4, 2]


def test_the_journal_is_trimmed_before_the_oldest_kept_snapshot(tmp_path: Path) -> None:
    world = Setup(tmp_path, keep=2, trim=True)
    for offset in (10, 20, 30):
        world.snapshot(offset)
    world.maintenance.turn()
    assert world.trimmer.done == [(0, 20)]


def test_nothing_is_trimmed_when_the_oldest_snapshot_is_damaged(tmp_path: Path) -> None:
    world = Setup(tmp_path, trim=True)
    bad = world.snapshot(10)
    world.snapshot(20)
    world.store.write_object(0, bad.object, [b"other"])
    world.maintenance.turn()
    assert world.trimmer.done == []


def test_nothing_is_trimmed_unless_asked_to(world: Setup) -> None:
    world.snapshot(10)
    world.snapshot(20)
    world.maintenance.turn()
    assert world.trimmer.done == []


def test_leftovers_go_after_an_hour(tmp_path: Path) -> None:
    world = Setup(tmp_path)
    world.store.write_object(0, make_manifest(9, id="half").object, [b"half"])
    kept = world.snapshot(5)
    world.maintenance.turn()
    assert len(list(tmp_path.glob("t/shard-0/*"))) == 3
    world.now = world.clock() + 61 * MINUTE
    world.maintenance.turn()
    names = {path.name for path in tmp_path.glob("t/shard-0/*")}
    assert names == {kept.name, kept.object}


def test_a_store_that_cannot_be_used_is_told_and_tried_again(tmp_path: Path) -> None:
    world = Setup(tmp_path / "store")
    (tmp_path / "store").write_text("a file in the way")
    world.maintenance.turn()
    answer = world.client().get("/readyz")
    assert problem(answer) == (503, "unavailable")
    assert "store" in body(answer)["detail"]
    (tmp_path / "store").unlink()
    (tmp_path / "store").mkdir()
    world.maintenance.turn()
    assert world.client().get("/readyz").status_code == 200


def test_metrics_tell_age_and_size(client: FlaskClient, world: Setup) -> None:
    world.snapshot(10)
    world.maintenance._tidy_due = 0
    world.maintenance.turn()
    text = generate_latest(world.metrics.registry).decode()
    for name in ("age_seconds", "bytes", "duration_seconds", "kept", "offset"):
        assert f'postjournal_snapshot_{name}{{shard="0"}}' in text
