"""The coordinator's HTTP API and its maintenance, with a real store in a directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client import generate_latest

from postjournal.cluster.status import Handover, SnapshotOrder, SnapshotProgress
from tests.support.coordinator import CoordinatorUnderTest, make_manifest, replica_status

MINUTE = 60_000


@pytest.fixture
def under_test(tmp_path: Path) -> CoordinatorUnderTest:
    under_test = CoordinatorUnderTest(tmp_path)
    under_test.replicas(a="leader", b="standby", c="standby")
    under_test.maintenance.run_once()
    return under_test


@pytest.fixture
def client(under_test: CoordinatorUnderTest) -> FlaskClient:
    return under_test.client()


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


# --- requests ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/v1/snapshots", "/api/v1/snapshot"])
def test_a_snapshot_is_ordered_from_a_standby(
    client: FlaskClient, under_test: CoordinatorUnderTest, path: str
) -> None:
    answer = client.post(path)
    assert answer.status_code == 202
    (order,) = under_test.control.records
    assert (order.id, order.replica, order.attempt) == (body(answer)["id"], "b", 1)
    assert answer.headers["Location"] == f"/api/v1/snapshots/{order.id}"
    snapshot = body(client.get(answer.headers["Location"]))
    assert (snapshot["state"], snapshot["snapshots"][0]["replica"]) == ("ordered", "b")


def test_a_snapshot_in_progress_has_its_progress(
    client: FlaskClient, under_test: CoordinatorUnderTest
) -> None:
    under_test.snapshot(3, b"x" * 1_000)
    snapshot_id = body(client.post("/api/v1/snapshots"))["id"]
    under_test.report(progress(snapshot_id, "writing", written=500, offset=9, seq=20, epoch=1))
    row = body(client.get(f"/api/v1/snapshots/{snapshot_id}"))["snapshots"][0]
    assert (row["state"], row["progress"], row["offset"], row["seq"]) == ("writing", 0.45, 9, 20)
    under_test.report(progress(snapshot_id, "verifying", read_back=50, size=100))
    row = body(client.get(f"/api/v1/snapshots/{snapshot_id}"))["snapshots"][0]
    assert (row["state"], row["progress"]) == ("verifying", 0.95)


def test_a_finished_snapshot_has_the_fields_of_its_manifest(
    client: FlaskClient, under_test: CoordinatorUnderTest
) -> None:
    manifest = under_test.snapshot(7, id="mine", size=4)
    row = body(client.get("/api/v1/snapshots/mine"))["snapshots"][0]
    assert row["state"] == "done"
    for name in ("offset", "seq", "epoch", "sha256", "size", "replica", "duration_ms"):
        assert row[name] == getattr(manifest, name)
    rows = body(client.get("/api/v1/snapshots"))["snapshots"]
    assert [row["id"] for row in rows] == ["mine"]


def test_two_requests_with_one_id_order_one_snapshot(
    client: FlaskClient, under_test: CoordinatorUnderTest
) -> None:
    headers = {"Idempotency-Key": "nightly-1"}
    first = client.post("/api/v1/snapshots", headers=headers)
    again = client.post("/api/v1/snapshots", headers=headers)
    assert (first.status_code, again.status_code) == (202, 202)
    assert body(first)["id"] == body(again)["id"] == "nightly-1"
    assert len(under_test.control.records) == 1


def test_a_finished_id_is_not_ordered_again(
    client: FlaskClient, under_test: CoordinatorUnderTest
) -> None:
    under_test.snapshot(7, id="mine")
    answer = client.post("/api/v1/snapshots", headers={"Idempotency-Key": "mine"})
    assert answer.status_code == 202
    assert body(answer)["snapshots"][0]["state"] == "done"
    assert under_test.control.records == []


def test_without_a_standby_a_snapshot_is_refused_unless_the_leader_may_take_it(
    tmp_path: Path,
) -> None:
    under_test = CoordinatorUnderTest(tmp_path)
    under_test.replicas(a="leader")
    client = under_test.client()
    refused = client.post("/api/v1/snapshots")
    assert problem(refused) == (409, "no-standby")
    assert "Retry-After" in refused.headers
    assert client.post("/api/v1/snapshots", json={"allow_leader": True}).status_code == 202
    assert under_test.control.records[0].replica == "a"


def test_a_request_is_for_all_shards_or_for_one(tmp_path: Path) -> None:
    under_test = CoordinatorUnderTest(tmp_path, shards=2)
    client = under_test.client()
    under_test.replicas(0, a="leader", b="standby")
    assert problem(client.post("/api/v1/snapshots")) == (409, "no-standby")
    assert under_test.control.records == [], "no order when one shard has no standby"
    under_test.replicas(1, a="standby", b="leader")
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
    client: FlaskClient, under_test: CoordinatorUnderTest, arguments: dict[str, Any], status: int
) -> None:
    answer = client.post("/api/v1/snapshots", **arguments)
    assert answer.status_code == status
    assert answer.mimetype == "application/problem+json"
    assert under_test.control.records == []


def test_an_unknown_snapshot_is_not_found(client: FlaskClient) -> None:
    assert problem(client.get("/api/v1/snapshots/nope")) == (404, "unknown-snapshot")


def test_without_kafka_requests_are_answered_with_unavailable(
    client: FlaskClient, under_test: CoordinatorUnderTest
) -> None:
    under_test.control.is_unavailable = True
    assert problem(client.post("/api/v1/snapshots")) == (503, "unavailable")
    under_test.follower.unavailable_reason = "Kafka is unavailable"
    assert problem(client.post("/api/v1/snapshots")) == (503, "unavailable")
    assert problem(client.get("/readyz")) == (503, "unavailable")
    assert client.get("/livez").status_code == 200


# --- the token -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/v1/snapshots", "/api/v1/snapshot", "/api/v1/handover"])
@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic right", "right", "Bearer "])
def test_requests_that_change_the_system_need_the_token(
    under_test: CoordinatorUnderTest, path: str, header: str | None
) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = under_test.client("right").post(path, headers=headers)
    assert problem(answer) == (401, "unauthorized")
    assert under_test.control.records == []


def test_the_token_is_accepted_and_reads_need_no_token(under_test: CoordinatorUnderTest) -> None:
    client = under_test.client("right")
    headers = {"Authorization": "Bearer right"}
    assert client.post("/api/v1/snapshots", headers=headers).status_code == 202
    for path in ("/api/v1/snapshots", "/api/v1/cluster", "/livez", "/readyz"):
        assert client.get(path).status_code == 200


# --- handover, cluster ---------------------------------------------------------------------------


def test_a_handover_is_requested_from_the_leader(
    client: FlaskClient, under_test: CoordinatorUnderTest
) -> None:
    answer = client.post("/api/v1/handover", json={"successor": "c"})
    assert (answer.status_code, body(answer)["leader"]) == (202, "a")
    (handover,) = under_test.control.records
    assert isinstance(handover, Handover)
    assert handover.successor == "c"
    assert problem(client.post("/api/v1/handover", json={"successor": "x"})) == (409, "no-standby")


def test_a_handover_needs_a_leader_and_a_standby(tmp_path: Path) -> None:
    under_test = CoordinatorUnderTest(tmp_path)
    assert problem(under_test.client().post("/api/v1/handover")) == (409, "no-leader")
    under_test.replicas(a="leader")
    assert problem(under_test.client().post("/api/v1/handover")) == (409, "no-standby")


def test_the_cluster_is_shown_as_the_replicas_report_it(client: FlaskClient) -> None:
    cluster = body(client.get("/api/v1/cluster"))
    assert cluster["shards"]["0"]["leader"] == "a"
    states = {replica["replica"]: replica["state"] for replica in cluster["replicas"]}
    assert states == {"a": "leader", "b": "standby", "c": "standby"}


def test_the_cluster_has_how_a_shards_previous_engine_ended(
    client: FlaskClient, under_test: CoordinatorUnderTest
) -> None:
    under_test.report(replica_status("b", last_end="killed by SIGKILL"))
    replicas = body(client.get("/api/v1/cluster"))["replicas"]
    ends = {replica["replica"]: replica["last_end"] for replica in replicas}
    assert ends == {"a": None, "b": "killed by SIGKILL", "c": None}


# --- maintenance ---------------------------------------------------------------------------------


def test_a_failed_attempt_is_followed_by_an_order_from_another_standby(
    client: FlaskClient, under_test: CoordinatorUnderTest
) -> None:
    snapshot_id = body(client.post("/api/v1/snapshots"))["id"]
    under_test.report(progress(snapshot_id, "failed", error="disk full"))
    under_test.maintenance.run_once()
    assert [(o.replica, o.attempt) for o in under_test.control.records] == [
        ("b", 1),
        ("c", 2),
    ]


def test_a_restarted_coordinator_continues_a_job(
    client: FlaskClient, under_test: CoordinatorUnderTest
) -> None:
    snapshot_id = body(client.post("/api/v1/snapshots"))["id"]
    under_test.report(progress(snapshot_id, "failed", error="disk full"))
    restarted = under_test.second_coordinator()
    restarted.run_once()
    assert [o.replica for o in under_test.control.records] == ["b", "c"]


def test_a_restarted_coordinator_ignores_old_orders_without_progress(tmp_path: Path) -> None:
    """The control topic may reach further back than the status topic is read."""
    under_test = CoordinatorUnderTest(tmp_path, minutes=10, trim=True)
    under_test.replicas(a="leader", b="standby", c="standby")
    now = under_test.clock()
    stored = [under_test.snapshot(offset, time=now) for offset in range(27, 37)]
    for number in range(1, 37):
        time = now - (37 - number) * 10 * MINUTE
        order = SnapshotOrder(
            id=f"at-{number}", shard=0, replica="b", attempt=1, asked=time, time=time
        )
        under_test.control.seen = time
        under_test.control.append(order)
    under_test.control.records.clear()
    under_test.maintenance.run_once()
    assert under_test.control.records == []
    assert len(under_test.status.records) == 3, "no job is given up"
    assert under_test.offsets() == [snapshot.offset for snapshot in reversed(stored)]
    under_test.now = under_test.control.seen = under_test.status.seen = now + 11 * MINUTE
    under_test.replicas(a="leader", b="standby")
    under_test.maintenance.run_once()
    assert [order.attempt for order in under_test.control.records] == [1], "the schedule continues"


def test_a_stored_snapshot_is_not_attempted_again(
    client: FlaskClient, under_test: CoordinatorUnderTest
) -> None:
    """Its record with the state done was lost, or has not been read yet."""
    snapshot_id = body(client.post("/api/v1/snapshots"))["id"]
    under_test.snapshot(7, id=snapshot_id)
    under_test.report(progress(snapshot_id, "failed", error="the store did not answer"))
    under_test.maintenance.run_once()
    assert len(under_test.control.records) == 1
    assert under_test.cluster_state.read(lambda _, table: table.open_jobs()) == []
    assert body(client.get(f"/api/v1/snapshots/{snapshot_id}"))["state"] == "done"


def test_two_coordinators_order_one_next_attempt(
    client: FlaskClient, under_test: CoordinatorUnderTest
) -> None:
    snapshot_id = body(client.post("/api/v1/snapshots"))["id"]
    under_test.report(progress(snapshot_id, "failed", error="x"))
    second = under_test.second_coordinator()
    under_test.maintenance.run_once()
    second.run_once()
    assert [(o.replica, o.attempt) for o in under_test.control.records] == [
        ("b", 1),
        ("c", 2),
    ]


def test_a_snapshot_that_is_given_up_has_failed_with_a_reason(
    client: FlaskClient, under_test: CoordinatorUnderTest
) -> None:
    snapshot_id = body(client.post("/api/v1/snapshots"))["id"]
    for attempt in range(1, 9):
        failed = progress(snapshot_id, "failed", attempt=attempt, error="no", replica="b")
        order = SnapshotOrder(
            id=snapshot_id, shard=0, replica="b", attempt=attempt, asked=0, time=0
        )
        under_test.control.append(order)
        under_test.report(failed)
    under_test.maintenance.run_once()
    row = body(client.get(f"/api/v1/snapshots/{snapshot_id}"))["snapshots"][0]
    assert row["state"] == "failed"
    assert "b: no" in row["error"]


def test_two_coordinators_order_a_due_snapshot_once(tmp_path: Path) -> None:
    under_test = CoordinatorUnderTest(tmp_path, minutes=10)
    under_test.replicas(a="leader", b="standby")
    under_test.snapshot(5, time=under_test.clock() - 11 * MINUTE)
    second = under_test.second_coordinator()
    under_test.maintenance.run_once()
    second.run_once()
    under_test.maintenance.run_once()
    assert len(under_test.control.records) == 1


def test_many_commands_make_a_snapshot_due(tmp_path: Path) -> None:
    under_test = CoordinatorUnderTest(tmp_path, commands=1_000)
    under_test.snapshot(5, seq=10)
    under_test.report(replica_status("b"), replica_status("a", "leader", seq=1_009))
    under_test.maintenance.run_once()
    assert under_test.control.records == []
    under_test.report(replica_status("a", "leader", seq=1_010))
    under_test.now = under_test.clock() + 3_000
    under_test.maintenance._retention_due_ms = 0
    under_test.maintenance.run_once()
    assert len(under_test.control.records) == 1


def test_the_newest_snapshots_are_retained_and_one_that_is_being_restored(tmp_path: Path) -> None:
    under_test = CoordinatorUnderTest(tmp_path, keep=2)
    for offset in (1, 2, 3, 4, 5):
        under_test.snapshot(offset)
    under_test.report(replica_status("c", "restoring", snapshot="at-2"))
    under_test.maintenance.run_once()
    assert under_test.offsets() == [5, 4, 2]


def test_the_journal_is_trimmed_before_the_oldest_retained_snapshot(tmp_path: Path) -> None:
    under_test = CoordinatorUnderTest(tmp_path, keep=2, trim=True)
    for offset in (10, 20, 30):
        under_test.snapshot(offset)
    under_test.maintenance.run_once()
    assert under_test.trimmer.trims == [(0, 20)]


def test_nothing_is_trimmed_when_the_oldest_snapshot_is_damaged(tmp_path: Path) -> None:
    under_test = CoordinatorUnderTest(tmp_path, trim=True)
    bad = under_test.snapshot(10)
    under_test.snapshot(20)
    under_test.store.write_object(0, bad.object, [b"other"])
    under_test.maintenance.run_once()
    assert under_test.trimmer.trims == []


def test_nothing_is_trimmed_unless_it_is_configured(under_test: CoordinatorUnderTest) -> None:
    under_test.snapshot(10)
    under_test.snapshot(20)
    under_test.maintenance.run_once()
    assert under_test.trimmer.trims == []


def test_leftovers_are_deleted_after_an_hour(tmp_path: Path) -> None:
    under_test = CoordinatorUnderTest(tmp_path)
    under_test.store.write_object(0, make_manifest(9, id="half").object, [b"half"])
    stored = under_test.snapshot(5)
    under_test.maintenance.run_once()
    assert len(list(tmp_path.glob("t/shard-0/*"))) == 3
    under_test.now = under_test.clock() + 61 * MINUTE
    under_test.maintenance.run_once()
    names = {path.name for path in tmp_path.glob("t/shard-0/*")}
    assert names == {stored.name, stored.object}


def test_an_unusable_store_is_reported_and_checked_again(tmp_path: Path) -> None:
    under_test = CoordinatorUnderTest(tmp_path / "store")
    (tmp_path / "store").write_text("a file in the way")
    under_test.maintenance.run_once()
    answer = under_test.client().get("/readyz")
    assert problem(answer) == (503, "unavailable")
    assert "store" in body(answer)["detail"]
    (tmp_path / "store").unlink()
    (tmp_path / "store").mkdir()
    under_test.maintenance.run_once()
    assert under_test.client().get("/readyz").status_code == 200


def test_a_lasting_fault_of_the_store_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    under_test = CoordinatorUnderTest(tmp_path / "store")
    (tmp_path / "store").write_text("a file in the way")
    under_test.replicas(a="leader", b="standby")
    for _ in range(5):
        under_test.maintenance.run_once()
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.message.partition(":")[0] for record in errors] == ["snapshot store"]


def test_a_snapshot_state_of_a_newer_release_is_shown_as_it_is(
    client: FlaskClient, under_test: CoordinatorUnderTest
) -> None:
    snapshot_id = body(client.post("/api/v1/snapshots"))["id"]
    under_test.report(progress(snapshot_id, "encrypting"))
    answer = client.get(f"/api/v1/snapshots/{snapshot_id}")
    assert (answer.status_code, body(answer)["state"]) == (200, "encrypting")


def test_metrics_have_age_and_size(client: FlaskClient, under_test: CoordinatorUnderTest) -> None:
    under_test.snapshot(10)
    under_test.maintenance._retention_due_ms = 0
    under_test.maintenance.run_once()
    text = generate_latest(under_test.metrics.registry).decode()
    for name in ("age_seconds", "bytes", "duration_seconds", "kept", "offset"):
        assert f'postjournal_snapshot_{name}{{shard="0"}}' in text
