"""For each service's credentials: what it may not do is denied. Written apart from the rights."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from postjournal.cli.docker import engine
from postjournal.cli.docker.containers import containers
from postjournal.cli.docker.system import DockerSystem
from postjournal.cli.errors import OperationFailed
from tests.support.containers import container_of, secret

pytestmark = pytest.mark.kafka

SINKS = {"results", "balances", "deadletter"}
TOPICS = {"commands", "feed", "journal", "control", "status"} | SINKS
READ = {
    "replica": {"commands", "feed", "journal", "control"} | SINKS,
    "producer": {"results", "status"},
    "consumer-results": {"results"},
    "consumer-balances": {"balances"},
    "leader-view": {"status"},
    "coordinator": {"status", "control", "journal"},
    "kafka-ui": TOPICS,
    "operator": TOPICS,
}
WRITE = {
    "replica": {"journal", "status"} | SINKS,
    "producer": {"commands"},
    "coordinator": {"control", "status"},
    "operator": {"commands", "feed", "control"},
}
SEE = {"coordinator": TOPICS}
"""May be described, besides what may be read or written."""

DENIED = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED)
ANSWER_S = 10.0

users = pytest.mark.parametrize("user", READ)


def client(system: DockerSystem, user: str) -> dict[str, Any]:
    return {
        "bootstrap.servers": system.plan.address("kafka"),
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": user,
        "sasl.password": secret(user, "kafka-password"),
        "log_level": 0,
    }


def seen_by(user: str) -> set[str]:
    return READ[user] | WRITE.get(user, set()) | SEE.get(user, set())


def code_of(error: KafkaException) -> int:
    return int(error.args[0].code())


# --- Kafka ----------------------------------------------------------------------------------


@users
def test_a_user_sees_only_the_topics_that_it_has_to_do_with(
    system: DockerSystem, user: str
) -> None:
    """And its password is right: the denials below are about rights."""
    found = AdminClient(client(system, user)).list_topics(timeout=ANSWER_S).topics
    ours = {name.removeprefix("ledger.") for name in found if name.startswith("ledger.")}
    assert ours == seen_by(user)


@users
def test_a_user_can_write_only_where_it_must(system: DockerSystem, user: str) -> None:
    producer = Producer(client(system, user) | {"message.timeout.ms": 8_000})
    failed: dict[str, int] = {}
    forbidden = TOPICS - WRITE.get(user, set())
    for topic in forbidden:

        def delivered(error: KafkaError | None, _: object, topic: str = topic) -> None:
            failed[topic] = error.code() if error else 0

        producer.produce(f"ledger.{topic}", b"{}", partition=0, on_delivery=delivered)
    producer.flush(ANSWER_S)
    unknown = KafkaError._UNKNOWN_TOPIC  # Kafka does not tell of topics that one may not see
    assert set(failed) == forbidden
    assert set(failed.values()) <= {*DENIED, unknown}


@users
def test_a_user_can_read_only_what_it_must(system: DockerSystem, user: str) -> None:
    group = {"group.id": "postjournal-unused", "auto.offset.reset": "earliest"}
    consumer = Consumer(client(system, user) | group)
    hidden = TOPICS - seen_by(user)
    for topic in hidden:
        told = consumer.list_topics(f"ledger.{topic}", timeout=ANSWER_S).topics
        error = told[f"ledger.{topic}"].error
        assert error is not None
        assert error.code() in DENIED
    forbidden = seen_by(user) - READ[user]
    consumer.assign([TopicPartition(f"ledger.{topic}", 0, 0) for topic in forbidden])
    denied: set[str] = set()
    deadline = time.monotonic() + ANSWER_S
    while denied != forbidden and time.monotonic() < deadline:
        message = consumer.poll(0.1)
        if message is None or message.topic() is None:
            continue
        refusal = message.error()
        assert refusal is not None, f"{user} has read {message.topic()}"
        if refusal.code() in DENIED:
            denied.add((message.topic() or "").removeprefix("ledger."))
    consumer.close()
    assert denied == forbidden


@users
def test_no_service_can_make_topics_or_change_their_settings(
    system: DockerSystem, user: str
) -> None:
    admin = AdminClient(client(system, user))
    with pytest.raises(KafkaException) as refused:
        admin.create_topics([NewTopic("ledger.mine", 1, 1)])["ledger.mine"].result(ANSWER_S)
    assert code_of(refused.value) in DENIED
    change = ConfigEntry("retention.ms", "1000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, "ledger.journal", incremental_configs=[change])
    with pytest.raises(KafkaException) as refused:
        admin.incremental_alter_configs([resource])[resource].result(ANSWER_S)
    assert code_of(refused.value) in DENIED


@users
def test_only_the_coordinator_can_delete_records(system: DockerSystem, user: str) -> None:
    """Nothing is deleted here: before offset 0 there is nothing."""
    admin = AdminClient(client(system, user))
    for topic in sorted(TOPICS):
        place = TopicPartition(f"ledger.{topic}", 0, 0)
        answer = admin.delete_records([place])[place]
        if (user, topic) == ("coordinator", "journal"):
            answer.result(ANSWER_S)
            continue
        with pytest.raises(KafkaException) as refused:
            answer.result(ANSWER_S)
        # Of a topic that one may not see, the client finds no leader to ask.
        assert code_of(refused.value) in (
            DENIED if topic in seen_by(user) else (*DENIED, KafkaError._NOENT)
        )


def test_without_a_password_or_with_a_wrong_one_nobody_gets_in(system: DockerSystem) -> None:
    settings = client(system, "operator")
    anonymous = {"bootstrap.servers": settings["bootstrap.servers"], "log_level": 0}
    for wrong in (settings | {"sasl.password": "wrong"}, anonymous):
        with pytest.raises(KafkaException):
            AdminClient(wrong).list_topics(timeout=3)


# --- Redis ----------------------------------------------------------------------------------

REDIS = {
    "consumer-balances": (
        "set ledger:balances:0 x",
        "hset ledger:shard:0 leader me",
        "hgetall ledger:replicas",
        "flushall",
        "config get *",
        "keys *",
        "acl list",
    ),
    "leader-view": (
        "hset ledger:balances:0 alice 1000000",
        "hgetall ledger:balances:0",
        "flushall",
        "config set maxmemory 1",
        "publish other hello",
        "eval return 0",
    ),
    "operator": ("hset ledger:balances:0 alice 1", "del ledger:failovers", "flushall", "shutdown"),
    "health": ("info", "get ledger:replicas", "flushall"),
}


@pytest.mark.parametrize(
    ("user", "command"), [(user, command) for user, found in REDIS.items() for command in found]
)
def test_redis_refuses_what_a_user_need_not_do(
    system: DockerSystem, user: str, command: str
) -> None:
    assert "NOPERM" in redis(user, command)


def test_redis_lets_nobody_in_without_a_user(system: DockerSystem) -> None:
    name = container_of("redis").name
    answer = engine.run("exec", name, "redis-cli", "ping")
    assert b"NOAUTH" in answer


def redis(user: str, command: str) -> str:
    password = "any" if user == "health" else secret(user, "redis-password")
    arguments = ("exec", "-e", f"REDISCLI_AUTH={password}", container_of("redis").name)
    words = ["eval", "return 1", "0"] if command.startswith("eval") else command.split()
    return engine.run(*arguments, "redis-cli", "--user", user, *words).decode()


# --- the store ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def foreign_bucket(system: DockerSystem) -> Iterator[str]:
    mc("root", secret("minio", "root-password"), "mb", "store/foreign")
    yield "foreign"


@pytest.mark.parametrize("user", ["replica", "coordinator"])
@pytest.mark.parametrize(
    "command",
    [
        "mb store/mine",
        "ls store/foreign",
        "cp /etc/hostname store/foreign/x",
        "version enable store/postjournal",
        "admin info store",
        "admin user list store",
        "anonymous set public store/postjournal",
    ],
)
def test_the_store_refuses_everything_outside_the_bucket(
    foreign_bucket: str, user: str, command: str
) -> None:
    with pytest.raises(OperationFailed, match=r"[Dd]enied|not authorized|Insufficient permissions"):
        mc(user, secret(user, "store-password"), *command.split())


@pytest.mark.parametrize("user", ["replica", "coordinator"])
def test_in_its_bucket_the_user_can_work(system: DockerSystem, user: str) -> None:
    password, place = secret(user, "store-password"), f"store/postjournal/test/{user}"
    mc(user, password, "cp", "/etc/hostname", place)
    mc(user, password, "cat", place)
    assert user in mc(user, password, "ls", "store/postjournal/test/")
    mc(user, password, "rm", place)


def mc(user: str, password: str, *command: str) -> str:
    minio = container_of("minio").name
    host = f"MC_HOST_store=http://{user}:{password}@127.0.0.1:9000"
    arguments = ("exec", "-e", host, minio, "mc", "--config-dir", "/tmp/mc", "--no-color")
    return engine.run(*arguments, *command).decode()


# --- networks -------------------------------------------------------------------------------

PLACES = {
    "kafka": 9092,
    "redis": 6379,
    "minio": 9000,
    "replica": 7070,
    "producer": 8080,
    "leader-view": 7072,
    "coordinator": 8085,
}
OURS = {"replica", "producer", "leader-view", "coordinator"}
REACHABLE = {
    "replica": OURS | {"kafka", "minio"},
    "producer": OURS | {"kafka"},
    "coordinator": OURS | {"kafka", "minio"},
    "consumer-results": OURS | {"kafka"},
    "consumer-balances": OURS | {"kafka", "redis"},
    "leader-view": OURS | {"kafka", "redis"},
    "redis": {"redis", "leader-view"},
    "minio": {"minio", "replica", "coordinator"},
}


@pytest.mark.parametrize("service", REACHABLE)
def test_a_service_reaches_the_stores_that_it_needs_and_no_other(
    system: DockerSystem, service: str
) -> None:
    name = container_of(service).name
    reached = {place for place, port in PLACES.items() if can_connect(name, place, port)}
    assert reached == REACHABLE[service]


def test_only_what_people_open_is_on_a_network_with_a_way_out(system: DockerSystem) -> None:
    networks = {name for each in containers() for name in each.networks if name != "none"}
    told = json.loads(engine.run("network", "inspect", *networks))
    open_ones = {each["Name"] for each in told if not each["Internal"]}
    assert {name.rpartition("_")[2] for name in open_ones} == {"front"}
    exposed = {each.service for each in containers() if open_ones & each.networks.keys()}
    assert exposed == {"kafka", "producer", "coordinator"}


def can_connect(container: str, host: str, port: int) -> bool:
    try:
        test = f"timeout 2 bash -c 'exec 3<>/dev/tcp/{host}/{port}'"
        engine.run("exec", container, "bash", "-c", test)
    except OperationFailed:
        return False
    return True
