"""Snapshots of real replicas on a real Kafka, and everything that may come in between."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
import requests
from click.testing import CliRunner
from confluent_kafka import Consumer, TopicPartition

from postjournal.cli.main import main
from postjournal.core import manifest as manifests
from tests.integration.cluster import Cluster, answers, cluster
from tests.integration.minio import MinIO, binary

pytestmark = pytest.mark.kafka

SLOW = "tests.integration.slow_ledger:SlowLedger"
POINTS = 25
"""As many random points in time; `tests/unit/test_reader.py` tries hundreds."""

needs_minio = pytest.mark.skipif(binary() is None, reason="no minio (POSTJOURNAL_MINIO or PATH)")


@pytest.fixture(scope="module", params=["directory", pytest.param("minio", marks=needs_minio)])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The variables of a store."""
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


def restarted(made: Cluster, name: str, **environment: str) -> None:
    made.services[name].kill()
    made.start(name, **environment)
    made.wait_until_in_sync()


def test_a_standby_takes_it_and_everybody_comes_back_from_it(
    kafka: str, tmp_path: Path, store: dict[str, str]
) -> None:
    with cluster(kafka, tmp_path, 3, store) as made:
        made.grow(50)
        row = made.snapshot()
        assert row.replica in made.in_state("standby")
        assert (row.seq, row.progress) == (50, 1.0)
        made.grow(20)
        digest = made.state(made.leader)["digest"]
        for name in made.replicas:
            restarted(made, name)
            assert f"restored snapshot {row.id}" in made.said(name)
            assert made.state(name)["digest"] == digest
        query = {"account": "a", "consistency": "any"}
        balances = {
            requests.get(f"{made.url(name)}/query/0", params=query, timeout=5).json()["result"][
                "balance"
            ]
            for name in made.replicas
        }
        assert balances == {69}


def test_a_repeat_after_a_restore_is_still_a_repeat(kafka: str, tmp_path: Path) -> None:
    """The dedupe window and the sinks' sequences come back too: kill all, restore, send again."""
    with cluster(kafka, tmp_path, 2) as made:
        made.grow(10)
        made.snapshot()
        for name in made.replicas:
            made.services[name].kill()
        for name in made.replicas:
            made.start(name)
        made.wait_until_in_sync()
        made.send({"type": "deposit", "account": "a", "amount": 1, "id": "c5"})
        made.wait(lambda: made.state(made.leader)["seq"] == 11)
        results = read_all(kafka, f"{made.namespace}.results", 11)
    assert [each["seq"] for each in results] == list(range(11))
    assert (results[-1]["id"], results[-1]["replayed"]) == ("c5", True)


def test_without_a_standby_the_leader_takes_it_if_allowed(kafka: str, tmp_path: Path) -> None:
    with cluster(kafka, tmp_path, 1) as made:
        made.grow(5)
        answer = requests.post(f"{made.url('coordinator')}/api/v1/snapshots", timeout=10)
        assert answer.status_code == 409
        row = made.wait_for_snapshot(made.ask(allow_leader=True))
        assert (row.seq, row.replica) == (5, "r0")
        made.grow(5)
        assert made.state("r0")["state"] == "leader"


def test_another_standby_is_asked_when_the_taker_is_killed(kafka: str, tmp_path: Path) -> None:
    slow = {"POSTJOURNAL_APP": SLOW, "TEST_DUMP_S": "60"}
    with cluster(kafka, tmp_path, 3, slow) as made:
        made.grow(5)
        snapshot_id = made.ask()
        row = made.wait_for_snapshot(snapshot_id, "writing")
        other = next(name for name in made.in_state("standby") if name != row.replica)
        restarted(made, other, TEST_DUMP_S="0")
        made.services[row.replica].kill()
        done = made.wait_for_snapshot(snapshot_id)
        assert done.replica == other
        assert len([name for name in made.files() if name.endswith(".json")]) == 1


def test_a_coordinator_that_is_killed_in_the_middle_goes_on(kafka: str, tmp_path: Path) -> None:
    slow = {"POSTJOURNAL_APP": SLOW, "TEST_DUMP_S": "4"}
    with cluster(kafka, tmp_path, 3, slow) as made:
        made.grow(5)
        snapshot_id = made.ask()
        taker = made.wait_for_snapshot(snapshot_id, "writing").replica
        made.services["coordinator"].kill()
        made.start("coordinator")
        assert made.wait_for_snapshot(snapshot_id).replica == taker
        manifest_names = [name for name in made.files() if name.endswith(".json")]
        assert len(manifest_names) == 1


def test_two_coordinators_at_once_do_no_harm(kafka: str, tmp_path: Path) -> None:
    slow = {"POSTJOURNAL_APP": SLOW, "TEST_DUMP_S": "60"}
    with cluster(kafka, tmp_path, 3, slow) as made:
        made.start("coordinator2")
        made.wait(lambda: answers(f"{made.url('coordinator2')}/readyz"))
        made.grow(5)
        snapshot_id = made.ask()
        row = made.wait_for_snapshot(snapshot_id, "writing")
        other = next(name for name in made.in_state("standby") if name != row.replica)
        restarted(made, other, TEST_DUMP_S="0")
        made.services[row.replica].kill()
        assert made.wait_for_snapshot(snapshot_id).seq == 5
        restarted(made, row.replica)
        assert f"restored snapshot {snapshot_id}" in made.said(row.replica)


def test_a_killed_leader_is_replaced_while_a_snapshot_is_taken(kafka: str, tmp_path: Path) -> None:
    """The taker's child keeps no connection of its parent's open, and a takeover waits for none."""
    slow = {"POSTJOURNAL_APP": SLOW, "TEST_DUMP_S": "6"}
    with cluster(kafka, tmp_path, 2, slow) as made:
        made.grow(5)
        snapshot_id = made.ask()
        taker = made.wait_for_snapshot(snapshot_id, "writing").replica
        made.services[made.leader].kill()
        made.wait(lambda: made.state(taker)["state"] == "leader", 3)
        made.wait(lambda: "took over" in made.said(taker), 3)
        assert "(tripwire" in made.said(taker), made.said(taker)[-2000:]
        assert made.wait_for_snapshot(snapshot_id).replica == taker


def test_the_taker_that_becomes_leader_and_dies_is_noticed_at_once(
    kafka: str, tmp_path: Path
) -> None:
    """Its child held its sockets, if it did not close them."""
    slow = {"POSTJOURNAL_APP": SLOW, "TEST_DUMP_S": "60"}
    with cluster(kafka, tmp_path, 3, slow) as made:
        made.grow(5)
        taker = made.wait_for_snapshot(made.ask(), "writing").replica
        control = f"{made.url('coordinator')}/api/v1/handover"
        assert requests.post(control, json={"successor": taker}, timeout=10).status_code == 202
        made.wait(lambda: made.state(taker)["state"] == "leader")
        made.wait(lambda: len(made.in_state("standby")) == 2)
        made.services[taker].kill()
        made.wait(lambda: made.in_state("leader"), 3)
        made.wait(lambda: "took over" in made.said(made.leader), 3)
        assert "(tripwire" in made.said(made.leader)


def test_a_stopped_replica_stops_in_time_although_it_takes_a_snapshot(
    kafka: str, tmp_path: Path
) -> None:
    slow = {"POSTJOURNAL_APP": SLOW, "TEST_DUMP_S": "60"}
    with cluster(kafka, tmp_path, 3, slow) as made:
        made.grow(5)
        taker = made.wait_for_snapshot(made.ask(), "writing").replica
        assert made.services[taker].terminate() == 0
        assert not [name for name in made.files() if name.endswith(".json")]


def test_a_deposed_leader_rebuilds_from_snapshot_and_tail_in_its_process(
    kafka: str, tmp_path: Path
) -> None:
    with cluster(kafka, tmp_path) as made:
        made.grow(20)
        snapshot_id = made.snapshot().id
        old = made.leader
        process = made.services[old].process
        for _ in range(20):  # until it is paused between a decision and its append, as is likely
            made.send(*[{"type": "deposit", "account": "a", "amount": 1}] * 20_000)
            process.send_signal(signal.SIGSTOP)
            made.wait(
                lambda: any(made.state(n).get("state") == "leader" for n in others(made, old))
            )
            process.send_signal(signal.SIGCONT)
            made.wait_until_in_sync()
            if f"restored snapshot {snapshot_id}" in made.said(old):
                break
            requests.post(
                f"{made.url('coordinator')}/api/v1/handover", json={"successor": old}, timeout=10
            )
            made.wait(lambda: made.state(old).get("state") == "leader")
        assert process.poll() is None
        assert f"restored snapshot {snapshot_id}" in made.said(old)


def others(made: Cluster, name: str) -> list[str]:
    return [each for each in made.replicas if each != name]


def test_the_newest_that_verifies_is_taken_and_damage_is_told(kafka: str, tmp_path: Path) -> None:
    with cluster(kafka, tmp_path, 2) as made:
        ids = []
        for _ in range(2):
            made.grow(10)
            ids.append(made.snapshot().id)
        newest = next(made.snapshots.rglob(f"*{ids[1]}*.zst"))
        data = bytearray(newest.read_bytes())
        data[len(data) // 2] ^= 1
        newest.write_bytes(bytes(data))
        standby = made.in_state("standby")[0]
        restarted(made, standby)
        assert f"restored snapshot {ids[0]}" in made.said(standby)
        assert f"snapshot {ids[1]} is not used" in made.said(standby)


def test_a_snapshot_of_a_newer_version_is_passed_over_and_told(kafka: str, tmp_path: Path) -> None:
    with cluster(kafka, tmp_path, 2) as made:
        made.grow(10)
        made.snapshot()
        path = next(made.snapshots.rglob("*.json"))
        manifest = manifests.decode(path.name, path.read_bytes())
        newer = msgspec.structs.replace(manifest, schema_version=2)
        path.write_bytes(manifests.encode(newer))
        standby = made.in_state("standby")[0]
        restarted(made, standby)
        assert "knows schemas up to 1: upgrade it" in made.said(standby)


def test_a_trimmed_journal_is_recovered_from_a_snapshot_and_refused_without(
    kafka: str, tmp_path: Path
) -> None:
    trimming = {"POSTJOURNAL_TRIM": "1", "POSTJOURNAL_SNAPSHOT_KEEP": "2"}
    with cluster(kafka, tmp_path, 2, trimming) as made:
        for _ in range(3):
            made.grow(10)
            made.snapshot()
            made.wait(lambda: len(made.files()) <= 4)
        made.wait(lambda: begin_of(kafka, made) > 0)
        assert len(made.files()) == 4
        standby = made.in_state("standby")[0]
        restarted(made, standby)
        made.services[standby].kill()
        (made.folder / "snapshots").rename(made.folder / "gone")
        made.start(standby)
        made.wait(lambda: made.state(standby).get("state") == "halted")
        assert "no snapshot can stand for it" in made.state(standby)["error"]
        assert made.in_state("leader"), "the others go on"


def begin_of(kafka: str, made: Cluster) -> int:
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "test"})
    place = TopicPartition(f"{made.namespace}.journal", 0)
    begin, _ = consumer.get_watermark_offsets(place, timeout=10)
    consumer.close()
    return begin


def test_the_schedule_takes_a_snapshot_and_retention_deletes_old_ones(
    kafka: str, tmp_path: Path
) -> None:
    often = {"POSTJOURNAL_SNAPSHOT_EVERY_COMMANDS": "50", "POSTJOURNAL_SNAPSHOT_KEEP": "2"}
    with cluster(kafka, tmp_path, 2, often) as made:
        for _ in range(3):
            made.grow(5)
            made.snapshot()
        made.wait(lambda: len(made.files()) == 4)
        made.grow(60)
        made.wait(lambda: any(each.seq == 75 for each in made.coordinator.snapshots()))


# --- time travel ---------------------------------------------------------------------------------


def read_all(kafka: str, topic: str, count: int = 0) -> list[Any]:
    """The topic's records as JSON; at least `count` of them."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "test"})
    place = TopicPartition(topic, 0, 0)
    consumer.assign([place])
    found: list[Any] = []
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        _, end = consumer.get_watermark_offsets(place, timeout=10, cached=False)
        if len(found) >= max(end, count):
            break
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            found.append(msgspec.json.decode(message.value() or b""))
    consumer.close()
    return found


def balances_at(journal: list[Any], seq: int) -> dict[str, int]:
    """An independent fold, for a journal in which nothing is void."""
    balances: dict[str, int] = {}
    items = [item for record in journal for item in record.get("batch", ())]
    for item in items[: seq + 1]:
        for event in item.get("events", ()):
            balances[event["account"]] = event.get("balance", 0)
    return balances


def run_replay(made: Cluster, *arguments: str, code: int = 0) -> Any:
    runner = CliRunner(env=made.environment)
    done = runner.invoke(main, ["replay", "--json", *arguments])
    assert done.exit_code == code, done.output
    return msgspec.json.decode(done.stdout) if code == 0 else done.output


def test_the_state_at_any_past_point_is_what_an_independent_fold_gives(
    kafka: str, tmp_path: Path
) -> None:
    with cluster(kafka, tmp_path, 2) as made:
        for _ in range(4):
            made.grow(60)
            made.snapshot()
        journal = read_all(kafka, f"{made.namespace}.journal")
        rng, export = Random(1), made.folder / "state.json"
        used = set()
        for _ in range(POINTS):
            seq = rng.randrange(240)
            found = run_replay(made, "--until-seq", str(seq), "--export", str(export))
            exported = msgspec.json.decode(export.read_bytes())
            assert (found["seq"], exported["seq"]) == (seq, seq)
            assert exported["state"] == balances_at(journal, seq)
            used.add(found["snapshot"])
        assert len(used) > 2, "from several snapshots, and from none"
        last = run_replay(made, "--query", "account=a")
        assert last["answer"] == {"account": "a", "balance": 239}
        assert last["digest"] == made.state(made.leader)["digest"]
        for offset in (0, len(journal) // 2):
            at = run_replay(made, "--until-offset", str(offset))
            assert at["offset"] == offset
        entry = next(r for r in journal if r["kind"] == "entry" and r["seq"] > 100)
        before = run_replay(made, "--until-time", str(entry["time"] - 1))
        assert before["time"] < entry["time"]
        assert "not there yet" in run_replay(made, "--until-seq", "999", code=1)
        tried = CliRunner(env=made.environment).invoke(main, ["restore", "--dry-run"])
        assert tried.exit_code == 0
        assert "verifies" in tried.stdout


def test_a_reader_follows_and_one_with_a_bound_stays(kafka: str, tmp_path: Path) -> None:
    with cluster(kafka, tmp_path, 2) as made:
        made.grow(30)
        made.snapshot()
        made.grow(30)
        reader = {"POSTJOURNAL_READER": "1"}
        made.start("reader", **reader)
        made.start("past", **reader, POSTJOURNAL_READER_UNTIL="seq:9")
        made.wait(lambda: made.in_state("reader") == ["reader", "past"])
        assert made.state("reader")["seq"] == 60
        assert made.state("past")["seq"] == 10
        made.grow_only(5, ["r0", "r1", "reader"])
        answer = requests.get(
            f"{made.url('past')}/query/0", {"account": "a", "consistency": "any"}, timeout=5
        ).json()
        assert (answer["result"]["balance"], answer["seq"]) == (9, 9)
        for name in ("r0", "r1"):
            made.services[name].kill()
        time.sleep(1.5)
        assert made.in_state("reader") == ["reader", "past"], "a reader never claims"
