"""Settings of topics that an operator changes while the system runs."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import pytest
import requests

from postjournal.cli.doctor.diagnosis import State
from postjournal.cli.doctor.topics import diagnose_topics
from tests.support.replicas import Cluster, running_cluster
from tests.support.services import without_repeats
from tests.support.topics import read_json, set_config

pytestmark = pytest.mark.kafka


def wrong_topics(cluster: Cluster) -> dict[str, str]:
    """Topic → advice of the doctor."""
    findings = diagnose_topics(cluster.environment, None)
    return {one.name: one.advice for one in findings if one.state is State.BAD}


def test_a_sink_that_refuses_outputs_for_a_while_halts_nothing_and_has_no_gap(
    kafka: str, tmp_path: Path
) -> None:
    """A compacted topic takes no record without a key."""
    with running_cluster(kafka, tmp_path, 2) as cluster:
        results = f"{cluster.namespace}.results"
        cluster.apply(5)
        assert wrong_topics(cluster) == {}
        set_config(kafka, results, "cleanup.policy", "compact")
        cluster.apply(5)
        cluster.wait_for(
            lambda: any("publishing failed" in cluster.log(name) for name in cluster.replicas)
        )
        # After ten seconds another replica tries.
        cluster.wait_for(
            lambda: any("leaving the leadership" in cluster.log(name) for name in cluster.replicas)
        )
        (advice,) = wrong_topics(cluster).values()
        assert f"--entity-name {results} --add-config cleanup.policy=delete" in advice
        set_config(kafka, results, "cleanup.policy", "delete")
        cluster.apply(5)
        outputs = read_json(kafka, results, 15)
        assert [output["seq"] for output in without_repeats(outputs)] == list(range(15))
        assert {cluster.state(name)["state"] for name in cluster.replicas} == {"leader", "standby"}


def test_the_coordinator_shows_a_setting_that_would_lose_commands(
    kafka: str, tmp_path: Path
) -> None:
    """It looks once a minute, and when it starts."""
    with running_cluster(kafka, tmp_path, 1) as cluster:
        commands = f"{cluster.namespace}.commands"
        set_config(kafka, commands, "cleanup.policy", "compact")
        cluster.services["coordinator"].kill()
        cluster.start("coordinator")
        cluster.wait_for(
            lambda: f"{commands} has cleanup.policy=compact" in cluster.log("coordinator")
        )
        assert "commands that are not decided yet would be lost" in cluster.log("coordinator")
        assert requests.get(f"{cluster.url('coordinator')}/livez", timeout=20).ok


def test_a_journal_that_refuses_entries_causes_few_elections_and_is_reported(
    kafka: str, tmp_path: Path
) -> None:
    """Claims and heartbeats fit, entries do not: each leader fails at its first entry."""
    with running_cluster(kafka, tmp_path, 2) as cluster:
        journal = f"{cluster.namespace}.journal"
        cluster.apply(5)
        set_config(kafka, journal, "max.message.bytes", "1000")
        replicas, refused = cluster.replicas, "the journal refuses a record"
        names = [uuid.uuid4().hex for _ in range(100)]
        cluster.send(*({"type": "open", "account": name} for name in names))
        cluster.wait_for(
            lambda: all("the journal" in str(cluster.state(name)["error"]) for name in replicas)
        )
        _, before = cluster.leadership()
        time.sleep(20)  # in which there were 50 elections
        epochs = [cluster.state(name)["epoch"] for name in cluster.replicas]
        assert max(epochs) - before <= 20
        assert any(refused in line for line in cluster.log("r0").splitlines() if "WARNING" in line)
        set_config(kafka, journal, "max.message.bytes", "8388608")
        cluster.wait_for(lambda: cluster.are_at(cluster.sent, cluster.replicas))
