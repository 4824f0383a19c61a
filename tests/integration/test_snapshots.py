"""Snapshots of real replicas on a real Kafka, and what can interrupt them."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import requests

from postjournal.core.snapshot import manifest as manifests
from tests.support.minio import MinIO, binary
from tests.support.replicas import ATTEMPTS, Cluster, is_ready, running_cluster
from tests.support.services import without_repeats
from tests.support.topics import bounds, read_json

pytestmark = pytest.mark.kafka

SLOW = "tests.support.slow_ledger:SlowLedger"

needs_minio = pytest.mark.skipif(binary() is None, reason="no minio (POSTJOURNAL_MINIO or PATH)")


@pytest.fixture(scope="module", params=["directory", pytest.param("minio", marks=needs_minio)])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The environment variables of a snapshot store; none: the cluster's directory."""
    if request.param == "directory":
        yield {}
        return
    server = MinIO(tmp_path_factory.mktemp("minio"))
    server.start()
    settings = server.settings()
    yield {
        "POSTJOURNAL_SNAPSHOT_URL": settings.url,
        "POSTJOURNAL_SNAPSHOT_KEY_ID": settings.key_id or "",
        "POSTJOURNAL_SNAPSHOT_SECRET": settings.secret or "",
    }
    server.kill()


def slow(folder: Path) -> dict[str, str]:
    """The environment of replicas whose snapshots are in progress until `let_dumps_end`."""
    return {"POSTJOURNAL_APP": SLOW, "TEST_DUMP_ENDS": str(folder / "dumps-end")}


def let_dumps_end(cluster: Cluster) -> None:
    (cluster.folder / "dumps-end").touch()


def make_dumps_last(cluster: Cluster) -> None:
    (cluster.folder / "dumps-end").unlink()


def start_slow_snapshot(cluster: Cluster) -> tuple[str, str]:
    """Its id, and the replica that is writing it."""
    snapshot_id = cluster.request_snapshot()
    return snapshot_id, cluster.wait_for_snapshot(snapshot_id, "writing").replica


def test_a_standby_takes_a_snapshot_and_every_replica_restores_it(
    kafka: str, tmp_path: Path, store: dict[str, str]
) -> None:
    with running_cluster(kafka, tmp_path, 3, store) as cluster:
        cluster.apply(50)
        leader, row = cluster.in_one_epoch(lambda: (cluster.leader, cluster.snapshot()))
        assert row.replica != leader
        assert (row.seq, row.progress) == (50, 1.0)
        cluster.apply(20)
        digest = cluster.state(cluster.leader)["digest"]
        for name in cluster.replicas:
            cluster.restart(name)
            assert f"restored snapshot {row.id}" in cluster.log(name)
            assert cluster.state(name)["digest"] == digest
        query = {"account": "a", "consistency": "any"}
        balances = {
            requests.get(f"{cluster.url(name)}/query/0", query, timeout=20).json()["result"][
                "balance"
            ]
            for name in cluster.replicas
        }
        assert balances == {69}


def test_a_repeat_after_a_restore_is_still_a_repeat(kafka: str, tmp_path: Path) -> None:
    """A restore includes the dedupe window and the sequences of the sinks."""
    with running_cluster(kafka, tmp_path, 2) as cluster:
        cluster.apply(10)
        cluster.snapshot()
        for name in cluster.replicas:
            cluster.services[name].kill()
        for name in cluster.replicas:
            cluster.start(name)
        cluster.wait_until_in_sync()
        cluster.send({"type": "deposit", "account": "a", "amount": 1, "id": "c5"})
        cluster.wait_for(lambda: cluster.are_at(11, [cluster.leader]))
        results = without_repeats(read_json(kafka, f"{cluster.namespace}.results", 11))
    assert len(results) == 11
    assert (results[-1]["id"], results[-1]["replayed"]) == ("c5", True)


def test_without_a_standby_the_leader_takes_a_snapshot_only_if_allowed(
    kafka: str, tmp_path: Path
) -> None:
    with running_cluster(kafka, tmp_path, 1) as cluster:
        cluster.apply(5)
        url = f"{cluster.url('coordinator')}/api/v1/snapshots"
        answer = cluster.in_one_epoch(lambda: requests.post(url, timeout=20))
        assert answer.status_code == 409
        row = cluster.wait_for_snapshot(cluster.request_snapshot(allow_leader=True))
        assert (row.seq, row.replica) == (5, "r0")
        cluster.apply(5)
        assert cluster.leader == "r0"


def test_another_standby_takes_the_snapshot_when_the_taker_is_killed(
    kafka: str, tmp_path: Path
) -> None:
    with running_cluster(kafka, tmp_path, 3, slow(tmp_path)) as cluster:
        cluster.apply(5)
        snapshot_id, taker = start_slow_snapshot(cluster)
        cluster.services[taker].kill()
        let_dumps_end(cluster)
        assert cluster.wait_for_snapshot(snapshot_id).replica in cluster.others(taker)
        assert len(cluster.manifests()) == 1


def test_a_restarted_coordinator_continues_a_snapshot_in_progress(
    kafka: str, tmp_path: Path
) -> None:
    with running_cluster(kafka, tmp_path, 3, slow(tmp_path)) as cluster:
        cluster.apply(5)
        snapshot_id, taker = start_slow_snapshot(cluster)
        cluster.services["coordinator"].kill()
        cluster.start("coordinator")
        cluster.wait_for(lambda: is_ready(cluster.url("coordinator")))
        let_dumps_end(cluster)
        assert cluster.wait_for_snapshot(snapshot_id).replica == taker
        assert len(cluster.manifests()) == 1


def test_two_coordinators_can_run_at_once(kafka: str, tmp_path: Path) -> None:
    with running_cluster(kafka, tmp_path, 3, slow(tmp_path)) as cluster:
        cluster.start("coordinator2")
        cluster.wait_for(lambda: is_ready(cluster.url("coordinator2")))
        cluster.apply(5)
        snapshot_id, taker = start_slow_snapshot(cluster)
        cluster.services[taker].kill()
        let_dumps_end(cluster)
        assert cluster.wait_for_snapshot(snapshot_id).seq == 5
        cluster.restart(taker)
        assert f"restored snapshot {snapshot_id}" in cluster.log(taker)


def is_tripwire_fired_by_kill(cluster: Cluster, leader: str) -> bool:
    """Kill the leader; whether a standby took over because its connection had closed.

    Also False when the leader was replaced for its silence before the kill, as happens on a busy
    machine.
    """
    read_bytes = {name: len(cluster.log(name)) for name in cluster.others(leader)}
    if cluster.leader != leader:
        return False
    cluster.services[leader].kill()

    def takeovers() -> list[str]:
        new = [cluster.log(name)[start:] for name, start in read_bytes.items()]
        return [line for text in new for line in text.split("\n") if "took over" in line]

    return any("(tripwire" in line for line in cluster.wait_for(takeovers))


def test_the_tripwire_of_a_killed_leader_fires_during_a_snapshot(
    kafka: str, tmp_path: Path
) -> None:
    """The taker's child keeps no connection of its parent open, and no takeover waits for it."""
    with running_cluster(kafka, tmp_path, 2, slow(tmp_path)) as cluster:
        cluster.apply(5)
        for _ in range(ATTEMPTS):
            snapshot_id, taker = start_slow_snapshot(cluster)
            (leader,) = cluster.others(taker)
            fired = is_tripwire_fired_by_kill(cluster, leader)
            let_dumps_end(cluster)
            assert cluster.wait_for_snapshot(snapshot_id).replica == taker
            if fired:
                return
            make_dumps_last(cluster)
            cluster.restart(leader)
        raise AssertionError(cluster.log(taker)[-2000:])


def test_the_tripwire_of_a_killed_taker_that_became_leader_fires(
    kafka: str, tmp_path: Path
) -> None:
    """The taker's child would keep its sockets open if it did not close them."""
    with running_cluster(kafka, tmp_path, 3, slow(tmp_path)) as cluster:
        cluster.apply(5)
        for _ in range(ATTEMPTS):
            snapshot_id, taker = start_slow_snapshot(cluster)
            cluster.hand_over(taker)
            cluster.wait_for(lambda: len(cluster.in_state("standby")) == 2)
            if is_tripwire_fired_by_kill(cluster, taker):
                return
            let_dumps_end(cluster)
            cluster.wait_for_snapshot(snapshot_id)
            make_dumps_last(cluster)
            cluster.restart(taker)
        raise AssertionError({name: cluster.log(name)[-2000:] for name in cluster.replicas})


def test_a_replica_stops_in_time_while_it_takes_a_snapshot(kafka: str, tmp_path: Path) -> None:
    with running_cluster(kafka, tmp_path, 3, slow(tmp_path)) as cluster:
        cluster.apply(5)
        _, taker = start_slow_snapshot(cluster)
        assert cluster.services[taker].terminate() == 0
        assert not cluster.manifests()


def test_a_deposed_leader_rebuilds_from_snapshot_and_tail_in_its_process(
    kafka: str, tmp_path: Path
) -> None:
    with running_cluster(kafka, tmp_path) as cluster:
        cluster.apply(20)
        snapshot_id = cluster.snapshot().id
        old = cluster.leader
        process = cluster.services[old].process
        for _ in range(20):  # until it is paused between a decision and its append, as is likely
            cluster.send(*[{"type": "deposit", "account": "a", "amount": 1}] * 20_000)
            cluster.services[old].signal_all(signal.SIGSTOP)
            cluster.wait_for(lambda: cluster.leads_among(cluster.others(old)))
            cluster.services[old].signal_all(signal.SIGCONT)
            cluster.wait_until_in_sync()
            if f"restored snapshot {snapshot_id}" in cluster.log(old):
                break
            cluster.hand_over(old)
        assert process.poll() is None
        assert f"restored snapshot {snapshot_id}" in cluster.log(old)


def test_a_damaged_snapshot_is_reported_and_the_one_before_it_restored(
    kafka: str, tmp_path: Path
) -> None:
    with running_cluster(kafka, tmp_path, 2) as cluster:
        ids = []
        for _ in range(2):
            cluster.apply(10)
            ids.append(cluster.snapshot().id)
        newest = next(cluster.snapshots.rglob(f"*{ids[1]}*.zst"))
        data = bytearray(newest.read_bytes())
        data[len(data) // 2] ^= 1
        newest.write_bytes(bytes(data))
        standby = cluster.one_in_state("standby")
        cluster.restart(standby)
        assert f"restored snapshot {ids[0]}" in cluster.log(standby)
        assert f"snapshot {ids[1]} is not used" in cluster.log(standby)


def test_a_snapshot_of_a_newer_version_is_reported_and_skipped(kafka: str, tmp_path: Path) -> None:
    with running_cluster(kafka, tmp_path, 2) as cluster:
        cluster.apply(10)
        cluster.snapshot()
        path = next(cluster.snapshots.rglob("*.json"))
        manifest = manifests.decode(path.name, path.read_bytes())
        newer = msgspec.structs.replace(manifest, schema_version=2)
        path.write_bytes(manifests.encode(newer))
        standby = cluster.one_in_state("standby")
        cluster.restart(standby)
        assert "reads schemas up to 1: upgrade it" in cluster.log(standby)


def test_a_trimmed_journal_is_recovered_from_a_snapshot_and_refused_without(
    kafka: str, tmp_path: Path
) -> None:
    trimming = {"POSTJOURNAL_TRIM": "1", "POSTJOURNAL_SNAPSHOT_KEEP": "2"}
    with running_cluster(kafka, tmp_path, 2, trimming) as cluster:
        for _ in range(3):
            cluster.apply(10)
            cluster.snapshot()
            cluster.wait_for(lambda: len(cluster.files()) <= 4)
        cluster.wait_for(lambda: bounds(kafka, f"{cluster.namespace}.journal")[0] > 0)
        assert len(cluster.files()) == 4
        standby = cluster.one_in_state("standby")
        cluster.restart(standby)
        cluster.services[standby].kill()
        cluster.snapshots.rename(cluster.folder / "removed")
        cluster.start(standby)
        cluster.wait_for(lambda: cluster.state(standby).get("state") == "halted")
        assert "no snapshot replaces the deleted records" in cluster.state(standby)["error"]
        cluster.wait_for(lambda: cluster.in_state("leader"))  # the others go on


def test_the_schedule_takes_a_snapshot_and_retention_deletes_old_ones(
    kafka: str, tmp_path: Path
) -> None:
    often = {"POSTJOURNAL_SNAPSHOT_EVERY_COMMANDS": "50", "POSTJOURNAL_SNAPSHOT_KEEP": "2"}
    with running_cluster(kafka, tmp_path, 2, often) as cluster:
        for _ in range(3):
            cluster.apply(5)
            cluster.snapshot()
        cluster.wait_for(lambda: len(cluster.files()) == 4)
        cluster.apply(60)
        # The coordinator may see that it is due at any seq from 65 on.
        cluster.wait_for(
            lambda: any((row.seq or 0) >= 65 for row in cluster.coordinator.snapshots())
        )


def test_a_reader_follows_and_one_with_a_bound_stops_there(kafka: str, tmp_path: Path) -> None:
    with running_cluster(kafka, tmp_path, 2) as cluster:
        cluster.apply(30)
        cluster.snapshot()
        cluster.apply(30)
        reader = {"POSTJOURNAL_READER": "1"}
        cluster.start("reader", **reader)
        cluster.start("past", **reader, POSTJOURNAL_READER_UNTIL="seq:9")
        cluster.wait_for(lambda: cluster.in_state("reader") == ["reader", "past"])
        cluster.wait_for(lambda: cluster.are_at(60, ["reader"]) and cluster.are_at(10, ["past"]))
        cluster.apply(5, ["r0", "r1", "reader"])
        answer = requests.get(
            f"{cluster.url('past')}/query/0", {"account": "a", "consistency": "any"}, timeout=20
        ).json()
        assert (answer["result"]["balance"], answer["seq"]) == (9, 9)
        for name in ("r0", "r1"):
            cluster.services[name].kill()
        time.sleep(1.5)
        assert cluster.in_state("reader") == ["reader", "past"], "a reader never claims"
