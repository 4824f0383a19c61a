"""Replicas of two releases together: one after the other is upgraded, and nothing stops."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import requests

from tests.support.replicas import ATTEMPTS, Cluster, cluster

pytestmark = pytest.mark.kafka

NEXT = "tests.support.next_ledger:NextLedger"


def start_next(made: Cluster, *names: str) -> None:
    """Replicas of the next release, until they are in sync."""
    for name in names:
        made.start(name, POSTJOURNAL_APP=NEXT)
    made.wait_until_in_sync()


def halted(made: Cluster, names: list[str]) -> bool:
    return all(made.state(name).get("state") == "halted" for name in names)


def ask(made: Cluster, name: str, **parameters: str) -> requests.Response:
    """A replica, for the account."""
    query = {"account": "a", **parameters}
    return requests.get(f"{made.url(name)}/query/0", query, timeout=20)


def close_the_account(made: Cluster, newer: str) -> int:
    """Has `newer` decide it, which an older leader rejects; the seq before that decision."""

    def is_closed() -> bool:
        answers: list[int] = []

        def has_answered() -> bool:
            answers.append(ask(made, newer, consistency="any").status_code)
            return answers[-1] in (200, 404)

        made.wait(has_answered)
        return answers[-1] == 404

    for _ in range(ATTEMPTS):
        made.hand_over(newer)
        before = made.sent
        made.send({"type": "close", "account": "a"})
        made.wait(lambda: made.are_at(made.sent, [newer]))
        if is_closed():
            return before
    raise AssertionError("an older one has decided each time")


def test_either_release_follows_the_other_with_the_same_digest(kafka: str, tmp_path: Path) -> None:
    with cluster(kafka, tmp_path, 2) as made:
        made.grow(10)
        start_next(made, "next")
        made.led_by("next", partial(made.grow, 10))
        made.wait_until_in_sync()
        made.services["next"].kill()
        made.wait(partial(made.leads_among, ["r0", "r1"]))
        made.grow_only(10, ["r0", "r1"])
        start_next(made, "next")
        assert made.state("next")["seq"] == made.sent


def test_what_only_the_newer_can_read_halts_the_older_until_it_is_upgraded(
    kafka: str, tmp_path: Path
) -> None:
    with cluster(kafka, tmp_path, 2) as made:
        older, newer = ["r0", "r1"], ["next0", "next1"]
        made.grow(10)
        start_next(made, *newer)
        before = close_the_account(made, "next0")
        made.wait(partial(halted, made, older))
        for name in older:
            assert made.state(name)["seq"] == before
            assert "update this replica; it has changed nothing" in made.said(name)
            answer = ask(made, name)
            assert (answer.status_code, answer.json()["error"]) == (503, "not_ready")
        made.wait(lambda: made.are_at(before + 1, newer))
        made.grow_only(5, newer)
        for name in older:
            made.services[name].kill()
        start_next(made, *older)
        assert made.are_at(before + 6, made.replicas)
