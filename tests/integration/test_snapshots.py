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
from postjournal.core.snapshot import manifest as manifests
from tests.support.minio import MinIO, binary
from tests.support.replicas import ATTEMPTS, Cluster, answers, cluster
from tests.support.services import dense

pytestmark = pytest.mark.kafka

SLOW = "tests.support.slow_ledger:SlowLedger"
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


def slow(folder: Path) -> dict[str, str]:
    """Snapshots are under way until `let_dumps_end`."""
    return {"POSTJOURNAL_APP": SLOW, "TEST_DUMP_ENDS": str(folder / "dumps-end")}


def let_dumps_end(made: Cluster) -> None:
    (made.folder / "dumps-end").touch()


def make_dumps_last(made: Cluster) -> None:
    (made.folder / "dumps-end").unlink()


def restarted(made: Cluster, name: str, **environment: str) -> None:
    made.services[name].kill()
    made.start(name, **environment)
    made.wait_until_in_sync()


def test_a_standby_takes_it_and_everybody_comes_back_from_it(
    kafka: str, tmp_path: Path, store: dict[str, str]
) -> None:
    with cluster(kafka, tmp_path, 3, store) as made:
        made.grow(50)
        leader, row = made.in_one_epoch(lambda: (made.leader, made.snapshot()))
        assert row.replica != leader
        assert (row.seq, row.progress) == (50, 1.0)
        made.grow(20)
        digest = made.state(made.leader)["digest"]
        for name in made.replicas:
            restarted(made, name)
            assert f"restored snapshot {row.id}" in made.said(name)
            assert made.state(name)["digest"] == digest
        query = {"account": "a", "consistency": "any"}
        balances = {
            requests.get(f"{made.url(name)}/query/0", params=query, timeout=20).json()["result"][
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
        made.wait(lambda: made.are_at(11, [made.leader]))
        results = dense(read_all(kafka, f"{made.namespace}.results", 11))
    assert len(results) == 11
    assert (results[-1]["id"], results[-1]["replayed"]) == ("c5", True)


def test_without_a_standby_the_leader_takes_it_if_allowed(kafka: str, tmp_path: Path) -> None:
    with cluster(kafka, tmp_path, 1) as made:
        made.grow(5)
        url = f"{made.url('coordinator')}/api/v1/snapshots"
        answer = made.in_one_epoch(lambda: requests.post(url, timeout=20))
        assert answer.status_code == 409
        row = made.wait_for_snapshot(made.ask(allow_leader=True))
        assert (row.seq, row.replica) == (5, "r0")
        made.grow(5)
        assert made.leader == "r0"


def test_another_standby_is_asked_when_the_taker_is_killed(kafka: str, tmp_path: Path) -> None:
    with cluster(kafka, tmp_path, 3, slow(tmp_path)) as made:
        made.grow(5)
        snapshot_id = made.ask()
        taker = made.wait_for_snapshot(snapshot_id, "writing").replica
        made.services[taker].kill()
        let_dumps_end(made)
        assert made.wait_for_snapshot(snapshot_id).replica in others(made, taker)
        assert len([name for name in made.files() if name.endswith(".json")]) == 1


def test_a_coordinator_that_is_killed_in_the_middle_goes_on(kafka: str, tmp_path: Path) -> None:
    with cluster(kafka, tmp_path, 3, slow(tmp_path)) as made:
        made.grow(5)
        snapshot_id = made.ask()
        taker = made.wait_for_snapshot(snapshot_id, "writing").replica
        made.services["coordinator"].kill()
        made.start("coordinator")
        made.wait_for_coordinator()
        let_dumps_end(made)
        assert made.wait_for_snapshot(snapshot_id).replica == taker
        manifest_names = [name for name in made.files() if name.endswith(".json")]
        assert len(manifest_names) == 1


def test_two_coordinators_at_once_do_no_harm(kafka: str, tmp_path: Path) -> None:
    with cluster(kafka, tmp_path, 3, slow(tmp_path)) as made:
        made.start("coordinator2")
        made.wait(lambda: answers(f"{made.url('coordinator2')}/readyz"))
        made.grow(5)
        snapshot_id = made.ask()
        taker = made.wait_for_snapshot(snapshot_id, "writing").replica
        made.services[taker].kill()
        let_dumps_end(made)
        assert made.wait_for_snapshot(snapshot_id).seq == 5
        restarted(made, taker)
        assert f"restored snapshot {snapshot_id}" in made.said(taker)


def is_noticed_at_once(made: Cluster, leader: str) -> bool:
    """Kill the leader: whether another took over because the connection to it had closed.

    False as well when it was replaced for its silence before that, as happens on a busy machine.
    """
    heard = {name: len(made.said(name)) for name in others(made, leader)}
    if made.leader != leader:
        return False
    made.services[leader].kill()
    lines: list[str] = []

    def is_replaced() -> bool:
        news = [
            line for name, start in heard.items() for line in made.said(name)[start:].split("\n")
        ]
        lines[:] = [line for line in news if "took over" in line]
        return bool(lines)

    made.wait(is_replaced)
    return any("(tripwire" in line for line in lines)


def test_a_killed_leader_is_replaced_while_a_snapshot_is_taken(kafka: str, tmp_path: Path) -> None:
    """The taker's child keeps no connection of its parent's open, and a takeover waits for none."""
    with cluster(kafka, tmp_path, 2, slow(tmp_path)) as made:
        made.grow(5)
        for _ in range(ATTEMPTS):
            snapshot_id = made.ask()
            taker = made.wait_for_snapshot(snapshot_id, "writing").replica
            (leader,) = others(made, taker)
            noticed = is_noticed_at_once(made, leader)
            let_dumps_end(made)
            assert made.wait_for_snapshot(snapshot_id).replica == taker
            if noticed:
                return
            make_dumps_last(made)
            restarted(made, leader)
        raise AssertionError(made.said(taker)[-2000:])


def test_the_taker_that_becomes_leader_and_dies_is_noticed_at_once(
    kafka: str, tmp_path: Path
) -> None:
    """Its child held its sockets, if it did not close them."""
    with cluster(kafka, tmp_path, 3, slow(tmp_path)) as made:
        made.grow(5)
        for _ in range(ATTEMPTS):
            snapshot_id = made.ask()
            taker = made.wait_for_snapshot(snapshot_id, "writing").replica
            made.hand_over(taker)
            made.wait(lambda: len(made.in_state("standby")) == 2)
            if is_noticed_at_once(made, taker):
                return
            let_dumps_end(made)
            made.wait_for_snapshot(snapshot_id)
            make_dumps_last(made)
            restarted(made, taker)
        raise AssertionError({name: made.said(name)[-2000:] for name in made.replicas})


def test_a_stopped_replica_stops_in_time_although_it_takes_a_snapshot(
    kafka: str, tmp_path: Path
) -> None:
    with cluster(kafka, tmp_path, 3, slow(tmp_path)) as made:
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
            made.wait(lambda: made.leads_among(others(made, old)))
            process.send_signal(signal.SIGCONT)
            made.wait_until_in_sync()
            if f"restored snapshot {snapshot_id}" in made.said(old):
                break
            made.hand_over(old)
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
        standby = made.one_in_state("standby")
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
        standby = made.one_in_state("standby")
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
        standby = made.one_in_state("standby")
        restarted(made, standby)
        made.services[standby].kill()
        (made.folder / "snapshots").rename(made.folder / "gone")
        made.start(standby)
        made.wait(lambda: made.state(standby).get("state") == "halted")
        assert "no snapshot replaces the deleted records" in made.state(standby)["error"]
        made.wait(lambda: made.in_state("leader"))  # the others go on


def begin_of(kafka: str, made: Cluster) -> int:
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "test"})
    place = TopicPartition(f"{made.namespace}.journal", 0)
    begin, _ = consumer.get_watermark_offsets(place, timeout=60)
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
        # At whatever seq between them the coordinator has seen that it is due.
        made.wait(lambda: any((row.seq or 0) >= 65 for row in made.coordinator.snapshots()))


# --- time travel ---------------------------------------------------------------------------------


def read_all(kafka: str, topic: str, count: int = 0) -> list[Any]:
    """The topic's records as JSON; at least `count` of them."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "test"})
    place = TopicPartition(topic, 0, 0)
    consumer.assign([place])
    found: list[Any] = []
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        _, end = consumer.get_watermark_offsets(place, timeout=60, cached=False)
        if len(found) >= max(end, count):
            break
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            found.append(msgspec.json.decode(message.value() or b""))
    consumer.close()
    return found


def accepted_entries(journal: list[Any]) -> list[Any]:
    """An independent fold: a new leader makes some records void."""
    epoch, alive_at, resigned, next_seq = 0, -1, False, 0
    entries = []
    for offset, record in enumerate(journal):
        kind, is_current = record["kind"], record["epoch"] == epoch and not resigned
        if kind == "claim" and record["epoch"] == epoch + 1 and record["seen"] >= alive_at:
            epoch, alive_at, resigned = record["epoch"], offset, False
        elif kind in ("entry", "heartbeat") and is_current and record["seq"] == next_seq:
            alive_at = offset
            next_seq += len(record.get("batch", ()))
            entries += [record] if kind == "entry" else []
        elif kind == "resign" and record["epoch"] == epoch:
            alive_at, resigned = offset, True
    return entries


def balances_at(entries: list[Any], seq: int) -> dict[str, int]:
    balances: dict[str, int] = {}
    items = [item for entry in entries for item in entry["batch"]]
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
        entries = accepted_entries(journal)
        rng, export = Random(1), made.folder / "state.json"
        used = set()
        for _ in range(POINTS):
            seq = rng.randrange(240)
            found = run_replay(made, "--until-seq", str(seq), "--export", str(export))
            exported = msgspec.json.decode(export.read_bytes())
            assert (found["seq"], exported["seq"]) == (seq, seq)
            assert exported["state"] == balances_at(entries, seq)
            used.add(found["snapshot"])
        assert len(used) > 2, "from several snapshots, and from none"
        last = run_replay(made, "--query", "account=a")
        assert last["answer"] == {"account": "a", "balance": 239}
        assert last["digest"] == made.state(made.leader)["digest"]
        for offset in (0, len(journal) // 2):
            at = run_replay(made, "--until-offset", str(offset))
            assert at["offset"] == offset
        entry = next(each for each in entries if each["seq"] > 100)
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
        made.wait(lambda: made.are_at(60, ["reader"]) and made.are_at(10, ["past"]))
        made.grow_only(5, ["r0", "r1", "reader"])
        answer = requests.get(
            f"{made.url('past')}/query/0", {"account": "a", "consistency": "any"}, timeout=20
        ).json()
        assert (answer["result"]["balance"], answer["seq"]) == (9, 9)
        for name in ("r0", "r1"):
            made.services[name].kill()
        time.sleep(1.5)
        assert made.in_state("reader") == ["reader", "past"], "a reader never claims"
