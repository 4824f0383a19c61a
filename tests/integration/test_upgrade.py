"""Replicas of two releases together: one after the other is upgraded, and nothing stops."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import requests

from tests.integration.cluster import Cluster, cluster

pytestmark = pytest.mark.kafka

NEXT = "tests.integration.next_ledger:NextLedger"


def start_next(made: Cluster, *names: str) -> None:
    """Replicas of the next release, until they are in sync."""
    for name in names:
        made.start(name, POSTJOURNAL_APP=NEXT)
    made.wait_until_in_sync()


def hand_over(made: Cluster, successor: str) -> None:
    """As soon as the coordinator knows it."""
    body = {"shard": 0, "successor": successor}

    def leads() -> bool:
        if made.state(successor).get("state") != "leader":
            requests.post(f"{made.url('coordinator')}/api/v1/handover", json=body, timeout=5)
        return made.state(successor).get("state") == "leader"

    made.wait(leads)


def halted(made: Cluster, names: list[str]) -> bool:
    return all(made.state(name).get("state") == "halted" for name in names)


def test_either_release_follows_the_other_with_the_same_digest(kafka: str, tmp_path: Path) -> None:
    with cluster(kafka, tmp_path, 2) as made:
        made.grow(10)
        start_next(made, "next")
        hand_over(made, "next")
        made.grow(10)
        made.wait_until_in_sync()
        made.services["next"].kill()
        made.wait(partial(made.leads_among, ["r0", "r1"]))
        made.grow_only(10, ["r0", "r1"])
        start_next(made, "next")
        assert made.state("next")["seq"] == 30


def test_what_only_the_newer_can_read_halts_the_older_until_it_is_upgraded(
    kafka: str, tmp_path: Path
) -> None:
    with cluster(kafka, tmp_path, 2) as made:
        older, newer = ["r0", "r1"], ["next0", "next1"]
        made.grow(10)
        start_next(made, *newer)
        hand_over(made, "next0")
        made.send({"type": "close", "account": "a"})
        made.wait(partial(halted, made, older))
        for name in older:
            assert made.state(name)["seq"] == 10
            assert "update this one; it has changed nothing" in made.said(name)
            answer = requests.get(f"{made.url(name)}/query/0", {"account": "a"}, timeout=5)
            assert (answer.status_code, answer.json()["error"]) == (503, "not_ready")
        made.wait(lambda: {made.state(name)["seq"] for name in newer} == {11})
        made.grow_only(5, newer)
        for name in older:
            made.services[name].kill()
        start_next(made, *older)
        assert {made.state(name)["seq"] for name in made.replicas} == {16}
