"""The gateway on a real Kafka: in this process with fake replicas, and as a process."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests
from confluent_kafka import Consumer, TopicPartition
from flask.testing import FlaskClient

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.cli.local.ports import choose_ports
from postjournal.cluster.status import ReplicaStatus
from postjournal.config.settings import KafkaAccess, Settings
from postjournal.core.errors import ConfigurationError
from services.producer import reads
from services.producer.app import make_app
from services.producer.wiring import start
from tests.support.services import eventually, publish_status, replica_status, running
from tests.support.topics import make_topics, publish

pytestmark = pytest.mark.kafka

OPEN = {"type": "open", "account": "alice", "id": "a1"}


@pytest.fixture
def namespace() -> str:
    return f"test-{uuid.uuid4().hex[:8]}"


def never(error: ConfigurationError) -> None:
    raise AssertionError(error)


@pytest.fixture
def settings(kafka: str, namespace: str) -> Settings:
    return Settings.from_environment(
        {"POSTJOURNAL_BOOTSTRAP": kafka, "POSTJOURNAL_NAMESPACE": namespace}
    )


@pytest.fixture
def http(kafka: str, namespace: str, settings: Settings) -> Iterator[FlaskClient]:
    make_topics(kafka, namespace)
    gateway = start(settings, never)
    client = make_app(gateway.gateway).test_client()
    eventually(lambda: client.get("/readyz").status_code == 200)
    yield client
    gateway.close()


def commands(kafka: str, namespace: str, count: int) -> list[Any]:
    """The first commands in the topic: key and decoded value."""
    consumer = Consumer(kafka_settings.follower_consumer(KafkaAccess(kafka)))
    consumer.assign([TopicPartition(f"{namespace}.commands", 0, 0)])
    found = [consumer.poll(60) for _ in range(count)]
    consumer.close()
    return [(m.key(), json.loads(m.value() or b"")) for m in found if m is not None]


def answer_in_background(kafka: str, namespace: str, *results: Mapping[str, object]) -> None:
    """Publish results a moment after the command was sent."""

    def publish_later() -> None:
        commands(kafka, namespace, 1)
        values = [msgspec.json.encode(result) for result in results]
        publish(kafka, f"{namespace}.results", values)

    threading.Thread(target=publish_later, daemon=True).start()


def test_an_accepted_command_is_in_the_log(kafka: str, namespace: str, http: FlaskClient) -> None:
    response = http.post("/api/v1/commands", json=OPEN)
    assert (response.status_code, response.json) == (202, {"id": "a1", "shard": 0, "offset": 0})
    assert commands(kafka, namespace, 1) == [(b"main", OPEN)]


def test_a_batch_is_in_the_log_in_order(kafka: str, namespace: str, http: FlaskClient) -> None:
    batch = [{"type": "open", "account": f"a{n}"} for n in range(3_000)]
    response = http.post("/api/v1/commands/batch", json=batch, headers={"Idempotency-Key": "k"})
    assert response.json is not None
    assert [command["offset"] for command in response.json["commands"]] == list(range(3_000))
    assert [value["id"] for _, value in commands(kafka, namespace, 3)] == ["k-0", "k-1", "k-2"]


def test_a_request_that_waits_gets_its_result(
    kafka: str, namespace: str, http: FlaskClient
) -> None:
    result: dict[str, object] = {"id": "a1", "seq": 1, "status": "accepted"}
    answer_in_background(kafka, namespace, {"id": "other", "seq": 0}, result)
    response = http.post("/api/v1/commands", json=OPEN, headers={"Prefer": "wait=20"})
    assert (response.status_code, response.json) == (200, result)


def test_a_result_from_before_the_request_is_not_its_result(
    kafka: str, namespace: str, http: FlaskClient
) -> None:
    early, marker = {"id": "a1", "seq": 0}, {"id": "a0", "seq": 1}
    answer_in_background(kafka, namespace, early, marker)
    headers = {"Prefer": "wait=20"}
    assert http.post("/api/v1/commands", json=OPEN | {"id": "a0"}, headers=headers).json == marker
    response = http.post("/api/v1/commands", json=OPEN, headers={"Prefer": "wait=1"})
    assert response.status_code == 202


class Replica:
    """Answers queries as a replica would."""

    def __init__(self) -> None:
        replica = self
        self.status, self.result = 200, {"account": "alice", "balance": 5}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = {"error": "not leader"}
                if replica.status == 200:
                    position = {"seq": 9, "epoch": 1, "shard": 0, "replica": "r1"}
                    body = {"result": replica.result, **position}  # type: ignore[dict-item]
                self.send_response(replica.status)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.http = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def replicas() -> Iterator[list[Replica]]:
    started = [Replica(), Replica()]
    yield started
    for replica in started:
        replica.server.shutdown()
        replica.server.server_close()


def report_until_known(
    kafka: str, namespace: str, http: FlaskClient, *statuses: ReplicaStatus
) -> None:
    """Publish the statuses until the gateway knows that r1 leads: they count for five seconds."""

    def is_known() -> bool:
        publish_status(kafka, namespace, *statuses)
        shard = http.get("/api/v1/leader?shard=0").json
        return shard is not None and shard["leader"] == "r1"

    eventually(is_known)


def test_a_read_finds_the_leader_by_its_status(
    kafka: str, namespace: str, http: FlaskClient, replicas: list[Replica]
) -> None:
    report_until_known(
        kafka, namespace, http, replica_status("r1", "leader", 1, "r1", http=replicas[0].http)
    )
    response = http.get("/api/v1/accounts/alice")
    assert response.status_code == 200
    assert response.json is not None
    assert (response.json["balance"], response.json["seq"]) == (5, 9)


def test_a_read_during_a_failover_is_answered_by_the_next_leader(
    kafka: str,
    namespace: str,
    http: FlaskClient,
    replicas: list[Replica],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reads, "BUDGET_S", 60.0)
    replicas[0].status = 409
    report_until_known(
        kafka, namespace, http, replica_status("r1", "leader", 1, "r1", http=replicas[0].http)
    )
    later = threading.Timer(
        0.3,
        publish_status,
        (kafka, namespace, replica_status("r2", "leader", 2, "r2", http=replicas[1].http)),
    )
    later.start()
    assert http.get("/api/v1/accounts/alice").status_code == 200
    later.join()


def test_any_replica_answers_a_read_with_consistency_any(
    kafka: str, namespace: str, http: FlaskClient, replicas: list[Replica]
) -> None:
    unreachable = replica_status("r1", "leader", 1, "r1", http="127.0.0.1:1")
    standby = replica_status("r2", "standby", 1, "r1", http=replicas[1].http)
    report_until_known(kafka, namespace, http, unreachable, standby)
    for _ in range(2):
        assert http.get("/api/v1/accounts/alice?consistency=any").status_code == 200
    assert http.get("/api/v1/accounts/alice").status_code == 503


# --- as a process ---------------------------------------------------------------------------


@pytest.fixture
def environment(kafka: str, namespace: str) -> dict[str, str]:
    ports = choose_ports({"gateway": 8080, "metrics": 8081}, prefer_wanted=False)
    return {
        "POSTJOURNAL_BOOTSTRAP": kafka,
        "POSTJOURNAL_NAMESPACE": namespace,
        "POSTJOURNAL_GATEWAY_PORT": str(ports["gateway"]),
        "POSTJOURNAL_METRICS_PORT": str(ports["metrics"]),
    }


def get(
    environment: dict[str, str], path: str, port: str = "POSTJOURNAL_GATEWAY_PORT"
) -> requests.Response:
    return requests.get(f"http://127.0.0.1:{environment[port]}{path}", timeout=60)


def metrics(environment: dict[str, str]) -> str:
    return get(environment, "/metrics", "POSTJOURNAL_METRICS_PORT").text


def post(environment: dict[str, str], **headers: str) -> requests.Response:
    port = environment["POSTJOURNAL_GATEWAY_PORT"]
    url = f"http://127.0.0.1:{port}/api/v1/commands"
    return requests.post(url, json=OPEN, headers=headers, timeout=120)


def test_the_gateway_starts_before_its_topics_and_works_once_they_exist(
    kafka: str, namespace: str, environment: dict[str, str], tmp_path: Path
) -> None:
    with running("services.producer", tmp_path / "log", **environment) as gateway:
        eventually(lambda: get(environment, "/livez").status_code == 200)
        eventually(lambda: "does not exist yet" in get(environment, "/readyz").text)
        refused = post(environment)
        assert (refused.status_code, refused.json()["outcome"]) == (503, "not_accepted")
        assert get(environment, "/readyz", "POSTJOURNAL_METRICS_PORT").status_code == 503
        make_topics(kafka, namespace)
        eventually(lambda: get(environment, "/readyz").status_code == 200)
        assert get(environment, "/readyz", "POSTJOURNAL_METRICS_PORT").status_code == 200
        assert post(environment).status_code == 202
        assert gateway.terminate() == 0


def test_a_gateway_without_kafka_is_live_and_not_ready(
    environment: dict[str, str], tmp_path: Path
) -> None:
    no_kafka = environment | {"POSTJOURNAL_BOOTSTRAP": "127.0.0.1:1"}
    with running("services.producer", tmp_path / "log", **no_kafka) as gateway:
        eventually(lambda: get(no_kafka, "/livez").status_code == 200)
        eventually(lambda: "no broker answers" in get(no_kafka, "/readyz").text)
        took_s = []
        for _ in range(5):  # one of them at least gets the CPU that it needs
            started = time.monotonic()
            refused = post(no_kafka)
            took_s.append(time.monotonic() - started)
        assert min(took_s) < 1
        assert (refused.status_code, refused.json()["outcome"]) == (503, "not_accepted")
        assert refused.headers["Retry-After"]
        assert gateway.terminate() == 0


def test_a_stopping_gateway_answers_waiting_requests(
    kafka: str, namespace: str, environment: dict[str, str], tmp_path: Path
) -> None:
    make_topics(kafka, namespace)
    with running("services.producer", tmp_path / "log", **environment) as gateway:
        eventually(lambda: get(environment, "/readyz").status_code == 200)
        answers: list[int] = []
        request = threading.Thread(
            target=lambda: answers.append(post(environment, Prefer="wait=30").status_code)
        )
        request.start()
        waiting = "postjournal_gateway_waiting_requests 1.0"
        eventually(lambda: waiting in metrics(environment))
        assert gateway.terminate() == 0
        request.join(60)
        assert answers == [202]


def test_a_gateway_waits_for_the_ports_that_the_worker_of_a_killed_one_still_holds(
    environment: dict[str, str], tmp_path: Path
) -> None:
    no_kafka = environment | {"POSTJOURNAL_BOOTSTRAP": "127.0.0.1:1"}  # then its worker ends later
    with running("services.producer", tmp_path / "first", **no_kafka) as first:
        eventually(lambda: get(no_kafka, "/livez").status_code == 200)
        first.kill()
        with running("services.producer", tmp_path / "second", **no_kafka) as second:
            eventually(lambda: "metrics on" in second.log)
            assert get(no_kafka, "/livez").status_code == 200
            assert second.terminate() == 0


def test_a_wrong_number_of_shards_ends_the_gateway_with_one_log_line(
    kafka: str, namespace: str, environment: dict[str, str], tmp_path: Path
) -> None:
    make_topics(kafka, namespace)
    wrong = environment | {"POSTJOURNAL_SHARDS": "3"}
    with running("services.producer", tmp_path / "log", **wrong) as gateway:
        assert gateway.process.wait(120) == 78
    assert "has 1 partitions but POSTJOURNAL_SHARDS is 3" in gateway.log
    assert "Traceback" not in gateway.log


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("POSTJOURNAL_GATEWAY_PORT", "no"),
        ("POSTJOURNAL_METRICS_PORT", "no"),
        ("POSTJOURNAL_APP", "nothing:Here"),
    ],
)
def test_a_wrong_setting_ends_the_gateway_with_one_log_line(
    environment: dict[str, str], tmp_path: Path, variable: str, value: str
) -> None:
    with running(
        "services.producer", tmp_path / "log", **environment | {variable: value}
    ) as gateway:
        assert gateway.process.wait(120) == 78
    assert variable in gateway.log
    assert "Traceback" not in gateway.log
