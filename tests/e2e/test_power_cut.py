"""A power cut of the broker's machine under load: nothing that was acknowledged is lost.

`./postjournal test tests/e2e/test_power_cut.py --log-cli-level=INFO` prints a line for each cut;
POSTJOURNAL_POWER_CUTS is their number.
"""

from __future__ import annotations

import json
import logging
import os
import random
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from postjournal.adapters.kafka.admin import ensure_topics, wait_for_kafka
from postjournal.adapters.kafka.topic_settings import TopicPlan
from postjournal.cli.main import main
from postjournal.cluster.topics import Topics
from postjournal.config.settings import FSYNC, KafkaAccess, Settings
from postjournal.ledger import Ledger
from tests.support.power_cut.broker import FragileBroker
from tests.support.power_cut.load import Load
from tests.support.replicas import Cluster, running_cluster
from tests.support.services import eventually, without_repeats
from tests.support.topics import ANSWER_S, bounds, read_json

pytestmark = pytest.mark.kafka

log = logging.getLogger(__name__)

CUTS = int(os.environ.get("POSTJOURNAL_POWER_CUTS", "2"))
"""A cut takes 18 s: for 9 of them the controller keeps the killed broker's registration."""

MOST_S = 2.0
"""The power is cut at a random moment in so many seconds of load."""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FragileBroker]:
    broker = FragileBroker(tmp_path_factory.mktemp("power-cut"))
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()


@pytest.fixture(scope="module")
def cluster(broker: FragileBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two replicas with the default settings, which create the topics, and a coordinator."""
    folder = tmp_path_factory.mktemp("replicas")
    with running_cluster(broker.address, folder, replicas=2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def control(broker: FragileBroker) -> str:
    """A source of the same broker, created with fsync off."""
    topics = Topics.of(f"control-{uuid.uuid4().hex[:8]}", Ledger.sources, Ledger.output_types)
    plan = TopicPlan.of(Settings.from_environment({FSYNC.name: "0"}))
    ensure_topics(wait_for_kafka(KafkaAccess(broker.address), ANSWER_S), topics, plan)
    return f"{topics.namespace}.feed"


def test_a_power_cut_loses_nothing_acknowledged_unless_fsync_is_off(
    broker: FragileBroker, cluster: Cluster, control: str
) -> None:
    source = f"{cluster.namespace}.feed"
    cluster.send({"type": "open", "account": "a"})
    acknowledged: list[str] = []
    for number in range(CUTS):
        began_s = time.monotonic()
        of_source, of_control = cut_under_load(broker, [source, control], f"cut-{number}")
        broker.start()
        acknowledged += of_source
        cluster.send({"type": "deposit", "account": "a", "amount": 1})  # the replicas go on
        lost = lost_from(broker.address, source, acknowledged)
        lost_control = lost_from(broker.address, control, of_control)
        log.info(
            "cut %d: lost %d of %d acknowledged, with fsync off %d of %d; %.1f s",
            *(number + 1, len(lost), len(of_source), len(lost_control), len(of_control)),
            time.monotonic() - began_s,
        )
        assert lost == []
        assert lost_control, "with fsync off nothing is lost: the power cut undoes nothing"
        check_decisions(broker.address, cluster, acknowledged)


def cut_under_load(broker: FragileBroker, topics: Iterable[str], name: str) -> list[list[str]]:
    """The ids that were acknowledged before the cut, by topic."""
    loads = [Load(broker.address, topic, name) for topic in topics]
    for load in loads:
        load.start()
    try:
        for load in loads:
            assert load.is_acknowledged.wait(ANSWER_S)
        time.sleep(random.uniform(0, MOST_S))
        undone = broker.cut_power()
    finally:
        for load in loads:
            load.stop()
    log.info("%s: %s", name, undone)
    return [load.acknowledged for load in loads]


def lost_from(kafka: str, topic: str, acknowledged: Iterable[str]) -> list[str]:
    """The ids that are not in the topic exactly once."""
    found = Counter(command["id"] for command in read_json(kafka, topic))
    return [command_id for command_id in acknowledged if found[command_id] != 1]


def check_decisions(kafka: str, cluster: Cluster, acknowledged: Iterable[str]) -> None:
    """All replicas have decided all commands, the acknowledged ones once, and the audit agrees."""
    _, sent = bounds(kafka, f"{cluster.namespace}.feed")
    cluster.wait_for(lambda: cluster.are_at(sent, cluster.replicas))
    cluster.wait_until_in_sync()
    results: list[dict[str, Any]] = []

    def are_published() -> bool:
        results[:] = without_repeats(read_json(kafka, f"{cluster.namespace}.results"))
        return len(results) == sent

    eventually(are_published)
    outcomes = Counter(result["id"] for result in results)
    assert [command_id for command_id in acknowledged if outcomes[command_id] != 1] == []
    assert not any(result["replayed"] for result in results)
    options = ["verify", "--bootstrap", kafka, "--namespace", cluster.namespace, "--json"]
    audit = CliRunner().invoke(main, options)
    assert audit.exit_code == 0, audit.output
    (shard,) = json.loads(audit.stdout)["shards"]
    assert shard["commands"] == sent
