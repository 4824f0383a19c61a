"""The consumer service as a process, on a real Kafka and a real Redis."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from postjournal.adapters.redis.client import connect
from postjournal.adapters.redis.projection import BalancesProjection, PositionMoved
from postjournal.cli.local.ports import choose_ports
from postjournal.config.settings import RedisAccess
from postjournal.core.sequence import Position
from tests.support.services import RedisProcess, balance, eventually, outputs, running
from tests.support.topics import make_topics, publish

pytestmark = pytest.mark.kafka


@pytest.fixture
def namespace(kafka: str) -> str:
    name = f"test-{uuid.uuid4().hex[:8]}"
    make_topics(kafka, name)
    return name


@pytest.fixture
def environment(kafka: str, redis_server: str, namespace: str) -> dict[str, str]:
    return {
        "POSTJOURNAL_BOOTSTRAP": kafka,
        "POSTJOURNAL_NAMESPACE": namespace,
        "POSTJOURNAL_REDIS_URL": redis_server,
        "SINK": "balances",
    }


class Balances:
    """What the projection holds."""

    def __init__(self, url: str, namespace: str) -> None:
        self.redis = connect(RedisAccess(url))
        self.key = f"{namespace}:balances:0"

    @property
    def accounts(self) -> dict[str, int]:
        found: Any = self.redis.hgetall(self.key)
        return {account: int(amount) for account, amount in found.items()}

    @property
    def position(self) -> dict[str, str]:
        found: Any = self.redis.hgetall(f"{self.key}:position")
        return dict(found)

    def wipe(self) -> None:
        self.redis.delete(self.key, f"{self.key}:position")


@pytest.fixture
def balances(redis_server: str, namespace: str) -> Balances:
    return Balances(redis_server, namespace)


def test_balances_and_their_position_are_kept_in_redis(
    kafka: str, namespace: str, environment: dict[str, str], balances: Balances, tmp_path: Path
) -> None:
    publish(
        kafka,
        f"{namespace}.balances",
        [balance(0, "a", 5), balance(1, "b", 7), balance(0, "a", 5), balance(2, "a", 1)],
    )
    with running("services.consumer", tmp_path / "log", **environment) as consumer:
        eventually(lambda: balances.position == {"seq": "2", "offset": "4"})
        assert balances.accounts == {"a": 1, "b": 7}
        assert consumer.terminate() == 0


def test_a_killed_projection_continues_where_it_stopped(
    kafka: str, namespace: str, environment: dict[str, str], balances: Balances, tmp_path: Path
) -> None:
    topic = f"{namespace}.balances"
    publish(kafka, topic, [balance(n, f"a{n % 7}", n) for n in range(5_000)])
    with running("services.consumer", tmp_path / "log", **environment) as consumer:
        eventually(lambda: balances.position)
        consumer.kill()
    publish(kafka, topic, [balance(n, f"a{n % 7}", n) for n in range(4_990, 5_100)])
    with running("services.consumer", tmp_path / "log", **environment):
        eventually(lambda: balances.position.get("seq") == "5099")
    assert balances.accounts == {f"a{n % 7}": n for n in range(5_093, 5_100)}


def test_a_wiped_redis_is_filled_again_without_new_records(
    kafka: str, namespace: str, environment: dict[str, str], balances: Balances, tmp_path: Path
) -> None:
    publish(kafka, f"{namespace}.balances", [balance(0, "a", 5), balance(1, "b", 7)])
    with running("services.consumer", tmp_path / "log", **environment):
        eventually(lambda: balances.accounts == {"a": 5, "b": 7})
        balances.wipe()
        eventually(lambda: balances.accounts == {"a": 5, "b": 7})


@pytest.fixture
def redis_process(tmp_path: Path) -> Iterator[RedisProcess]:
    process = RedisProcess(tmp_path)
    yield process
    process.stop()


def test_a_projection_without_redis_catches_up_once_redis_is_back(
    kafka: str,
    namespace: str,
    environment: dict[str, str],
    redis_process: RedisProcess,
    tmp_path: Path,
) -> None:
    topic, own = f"{namespace}.balances", redis_process
    publish(kafka, topic, [balance(0, "a", 5)])
    with running(
        "services.consumer", tmp_path / "log", **environment | {"POSTJOURNAL_REDIS_URL": own.url}
    ) as consumer:
        eventually(lambda: "retrying" in consumer.log)
        own.start()
        kept = Balances(own.url, namespace)
        eventually(lambda: kept.accounts == {"a": 5})
        before = consumer.log.count("retrying")
        own.pause()
        publish(kafka, topic, [balance(1, "a", 6), balance(2, "b", 1)])
        eventually(lambda: consumer.log.count("retrying") > before)
        own.resume()
        eventually(lambda: kept.accounts == {"a": 6, "b": 1})
        own.stop()
        publish(kafka, topic, [balance(3, "b", 2)])
        own.start()
        eventually(lambda: kept.accounts == {"a": 6, "b": 2})
        assert consumer.terminate() == 0


def test_a_gap_ends_the_projection_with_one_log_line(
    kafka: str, namespace: str, environment: dict[str, str], balances: Balances, tmp_path: Path
) -> None:
    publish(kafka, f"{namespace}.balances", [balance(0, "a", 5), balance(2, "a", 7)])
    with running("services.consumer", tmp_path / "log", **environment) as consumer:
        assert consumer.process.wait(120) == 1
    assert "expected seq 1, got 2" in consumer.log
    assert balances.accounts == {"a": 5}


def test_results_are_printed_one_line_each_and_not_again_after_a_restart(
    kafka: str, namespace: str, environment: dict[str, str], tmp_path: Path
) -> None:
    topic, environment = f"{namespace}.results", environment | {"SINK": "results"}
    log = tmp_path / "log"
    publish(kafka, topic, outputs([0, 1, 0, 2], status="accepted"))
    with running("services.consumer", log, **environment) as consumer:
        eventually(lambda: '"seq":2' in consumer.log)
        assert consumer.terminate() == 0
    publish(kafka, topic, outputs([2, 3], status="accepted"))
    with running("services.consumer", log, **environment) as consumer:
        eventually(lambda: '"seq":3' in consumer.log)
        assert consumer.terminate() == 0
    lines = [line for line in log.read_text().splitlines() if line.startswith("{")]
    assert lines == [value.decode() for value in outputs(range(4), status="accepted")]


@pytest.mark.parametrize("sink", ["results", "balances"])
def test_an_idle_consumer_is_ready_and_shows_its_metrics(
    environment: dict[str, str], kafka: str, namespace: str, tmp_path: Path, sink: str
) -> None:
    """The client lets no second thread in while the first one waits for records."""
    port = choose_ports({"metrics": 7072}, prefer_wanted=False)["metrics"]
    settings = environment | {"SINK": sink, "POSTJOURNAL_METRICS_PORT": str(port)}

    def get(path: str) -> requests.Response:
        return requests.get(f"http://127.0.0.1:{port}{path}", timeout=60)

    with running("services.consumer", tmp_path / "log", **settings):
        eventually(lambda: get("/readyz").ok)
        for _ in range(5):
            assert f'consumer_outputs_total{{sink="{sink}"}} 0.0' in get("/metrics").text
        publish(kafka, f"{namespace}.{sink}", [balance(0, "a", 5), balance(0, "a", 5)])
        eventually(lambda: f'consumer_repeats_total{{sink="{sink}"}} 1.0' in get("/metrics").text)
        eventually(lambda: f'consumer_outputs_total{{sink="{sink}"}} 1.0' in get("/metrics").text)


def test_a_consumer_that_waits_for_kafka_ends_quickly(
    environment: dict[str, str], tmp_path: Path
) -> None:
    away = environment | {"POSTJOURNAL_BOOTSTRAP": "127.0.0.1:1"}
    with running("services.consumer", tmp_path / "log", **away) as consumer:
        eventually(lambda: "no broker answers" in consumer.log)
        assert consumer.terminate() == 0


def test_an_unknown_sink_is_a_configuration_error(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with running("services.consumer", tmp_path / "log", **environment | {"SINK": "x"}) as consumer:
        assert consumer.process.wait(120) == 78
    assert "SINK='x'" in consumer.log
    assert "Traceback" not in consumer.log


# --- the projection on a real Redis ---------------------------------------------------------


@pytest.fixture
def projection(redis_server: str, namespace: str) -> BalancesProjection:
    return BalancesProjection(connect(RedisAccess(redis_server)), namespace)


def test_what_another_projection_has_written_is_not_overwritten(
    projection: BalancesProjection, redis_server: str, namespace: str, balances: Balances
) -> None:
    other = BalancesProjection(connect(RedisAccess(redis_server)), namespace)
    assert projection.load(0) is other.load(0) is None
    projection.write(0, {"a": 2}, Position(2, 1))
    with pytest.raises(PositionMoved):
        other.write(0, {"a": 1}, Position(1, 0))
    assert balances.accounts == {"a": 2}
    assert other.load(0) == Position(2, 1)


def test_a_first_write_removes_balances_of_unknown_age(
    projection: BalancesProjection, balances: Balances
) -> None:
    balances.redis.hset(balances.key, "ghost", 7)
    projection.load(0)
    projection.write(0, {"a": 2}, Position(2, 1))
    assert balances.accounts == {"a": 2}


def test_a_projection_that_has_lost_its_position_detects_it(
    projection: BalancesProjection, balances: Balances
) -> None:
    projection.load(0)
    projection.write(0, {"a": 2}, Position(2, 1))
    projection.verify()
    balances.wipe()
    with pytest.raises(PositionMoved):
        projection.verify()
