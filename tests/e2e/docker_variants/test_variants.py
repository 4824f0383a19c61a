"""The override files: three brokers, and no passwords."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.cli.docker import engine
from postjournal.cli.running_system import kafka_access
from tests.support.containers import (
    all_agree,
    container_of,
    deployment,
    docker_engine,
    leader_of,
    took_over_from,
    wait_for,
)
from tests.support.http_load import HttpLoad

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module", autouse=True)
def docker() -> Iterator[None]:
    with docker_engine():
        yield


def test_three_brokers_lose_one_under_load_and_nothing_else() -> None:
    with deployment(("compose.yaml", "compose.cluster.yaml")) as system:
        settings = kafka_settings.admin(kafka_access(system))
        journal = AdminClient(settings).list_topics(timeout=10).topics["ledger.journal"]
        assert len(journal.partitions[0].replicas) == 3
        with HttpLoad(system.plan.url("producer")) as load:
            load.wait_for_more(50)
            victim = {1: "kafka", 2: "kafka-2", 3: "kafka-3"}[journal.partitions[0].leader]
            engine.run("kill", container_of(victim).name)
            load.wait_for_more(50)
            engine.run("start", container_of(victim).name)
            load.wait_for_more(50)
            killed = leader_of(system)
            system.kill(killed)
            load.wait_for_more(20)
            wait_for(system, took_over_from(killed))
            system.start_replica(killed)
        load.check()
        wait_for(system, all_agree)


def test_without_passwords_it_works_as_well() -> None:
    with deployment(("compose.yaml", "compose.insecure.yaml"), replicas=2) as system:
        assert not system.plan.is_secure
        anonymous = AdminClient({"bootstrap.servers": system.plan.address("kafka")})
        assert "ledger.journal" in anonymous.list_topics(timeout=10).topics
        with HttpLoad(system.plan.url("producer")) as load:
            load.wait_for_more(50)
            time.sleep(1.2)  # statuses come once a second
        load.check()
        redis = container_of("redis").name
        wait_for(system, all_agree)
        assert engine.run("exec", redis, "redis-cli", "hget", "ledger:shard:0", "leader").strip()
