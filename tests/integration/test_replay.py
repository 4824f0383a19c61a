"""`replay` and `restore --dry-run` on the journal and snapshots of real replicas."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from postjournal.cli.main import main
from tests.support.replicas import Cluster, running_cluster
from tests.support.topics import read_json

pytestmark = pytest.mark.kafka

POINTS = 25
"""Random points of the past; `tests/unit/test_reader.py` tries hundreds."""


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


def run_replay(cluster: Cluster, *arguments: str, code: int = 0) -> Any:
    runner = CliRunner(env=cluster.environment)
    done = runner.invoke(main, ["replay", "--json", *arguments])
    assert done.exit_code == code, done.output
    return msgspec.json.decode(done.stdout) if code == 0 else done.output


def test_the_state_at_any_past_point_is_what_an_independent_fold_gives(
    kafka: str, tmp_path: Path
) -> None:
    with running_cluster(kafka, tmp_path, 2) as cluster:
        for _ in range(4):
            cluster.apply(60)
            cluster.snapshot()
        journal = read_json(kafka, f"{cluster.namespace}.journal")
        entries = accepted_entries(journal)
        rng, export = Random(1), cluster.folder / "state.json"
        used = set()
        for _ in range(POINTS):
            seq = rng.randrange(240)
            found = run_replay(cluster, "--until-seq", str(seq), "--export", str(export))
            exported = msgspec.json.decode(export.read_bytes())
            assert (found["seq"], exported["seq"]) == (seq, seq)
            assert exported["state"] == balances_at(entries, seq)
            used.add(found["snapshot"])
        assert len(used) > 2, "from several snapshots, and from none"
        last = run_replay(cluster, "--query", "account=a")
        assert last["answer"] == {"account": "a", "balance": 239}
        assert last["digest"] == cluster.state(cluster.leader)["digest"]
        for offset in (0, len(journal) // 2):
            at = run_replay(cluster, "--until-offset", str(offset))
            assert at["offset"] == offset
        entry = next(entry for entry in entries if entry["seq"] > 100)
        before = run_replay(cluster, "--until-time", str(entry["time"] - 1))
        assert before["time"] < entry["time"]
        assert "before the requested point" in run_replay(cluster, "--until-seq", "999", code=1)
        tried = CliRunner(env=cluster.environment).invoke(main, ["restore", "--dry-run"])
        assert tried.exit_code == 0
        assert "verifies" in tried.stdout
