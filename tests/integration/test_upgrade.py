"""Replicas of two releases together: they are upgraded one by one while the shard has a leader."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner, Result

from postjournal.cli.main import main
from tests.support.replicas import ATTEMPTS, Cluster, running_cluster
from tests.support.services import without_repeats
from tests.support.topics import read_json

pytestmark = pytest.mark.kafka

LEDGER = "postjournal.ledger:Ledger"
NEXT = "tests.support.next_ledger:NextLedger"


def start_next(cluster: Cluster, *names: str) -> None:
    """Start replicas of the next release and wait until they are in sync."""
    for name in names:
        cluster.start(name, POSTJOURNAL_APP=NEXT)
    cluster.wait_until_in_sync()


def are_halted(cluster: Cluster, names: list[str]) -> bool:
    return all(cluster.state(name).get("state") == "halted" for name in names)


def query(cluster: Cluster, name: str, **parameters: str) -> requests.Response:
    """The replica's answer about the account."""
    account = {"account": "a", **parameters}
    return requests.get(f"{cluster.url(name)}/query/0", account, timeout=20)


def close_the_account(cluster: Cluster, newer: str) -> int:
    """Have `newer` decide it, which an older leader rejects; returns the seq before it."""

    def is_closed() -> bool:
        def status() -> int | None:
            code = query(cluster, newer, consistency="any").status_code
            return code if code in (200, 404) else None

        return cluster.wait_for(status) == 404

    for _ in range(ATTEMPTS):
        cluster.hand_over(newer)
        before = cluster.sent
        cluster.send({"type": "close", "account": "a"})
        cluster.wait_for(lambda: cluster.are_at(cluster.sent, [newer]))
        if is_closed():
            return before
    raise AssertionError("an older replica has decided each time")


def test_either_release_follows_the_other_with_the_same_digest(kafka: str, tmp_path: Path) -> None:
    with running_cluster(kafka, tmp_path, 2) as cluster:
        cluster.apply(10)
        start_next(cluster, "next")
        cluster.led_by("next", partial(cluster.apply, 10))
        cluster.wait_until_in_sync()
        cluster.services["next"].kill()
        cluster.wait_for(partial(cluster.leads_among, ["r0", "r1"]))
        cluster.apply(10, ["r0", "r1"])
        start_next(cluster, "next")
        assert cluster.state("next")["seq"] == cluster.sent


def test_what_only_the_newer_can_read_halts_the_older_until_it_is_upgraded(
    kafka: str, tmp_path: Path
) -> None:
    with running_cluster(kafka, tmp_path, 2) as cluster:
        older, newer = ["r0", "r1"], ["next0", "next1"]
        cluster.apply(10)
        start_next(cluster, *newer)
        before = close_the_account(cluster, "next0")
        cluster.wait_for(partial(are_halted, cluster, older))
        for name in older:
            assert cluster.state(name)["seq"] == before
            assert "update this replica; it has changed nothing" in cluster.log(name)
            answer = query(cluster, name)
            assert (answer.status_code, answer.json()["error"]) == (503, "not_ready")
        cluster.wait_for(lambda: cluster.are_at(before + 1, newer))
        cluster.apply(5, newer)
        for name in older:
            cluster.services[name].kill()
        start_next(cluster, *older)
        assert cluster.are_at(before + 6, cluster.replicas)


def update(cluster: Cluster, name: str, release: str) -> None:
    """Stop the replica, which hands over if it leads, and start it from a snapshot."""
    assert cluster.services[name].terminate() == 0
    before = len(cluster.log(name))
    cluster.start(name, POSTJOURNAL_APP=release)
    cluster.wait_until_in_sync()
    assert "restored snapshot" in cluster.log(name)[before:]


def verify(cluster: Cluster, kafka: str, release: str) -> Result:
    options = ["verify", "--bootstrap", kafka, "--namespace", cluster.namespace]
    environment = cluster.environment | {"POSTJOURNAL_APP": release}
    return CliRunner().invoke(main, options, env=environment)


def test_a_sink_is_added_and_removed_while_snapshots_are_taken(kafka: str, tmp_path: Path) -> None:
    """Each release restores snapshots of the other, and the auditor of each finds all sound."""
    with running_cluster(kafka, tmp_path, 2) as cluster:
        names = cluster.replicas
        cluster.apply(10)
        for release in (NEXT, LEDGER, NEXT):
            cluster.snapshot()
            for name in names:
                update(cluster, name, release)
            cluster.apply(10)
        trail = without_repeats(read_json(kafka, f"{cluster.namespace}.trail"))
        decided = [f"c{number}" for number in (*range(11, 21), *range(31, 41))]
        assert [output["id"] for output in trail] == decided
        for release in (NEXT, LEDGER):
            result = verify(cluster, kafka, release)
            assert result.exit_code == 0, result.output
