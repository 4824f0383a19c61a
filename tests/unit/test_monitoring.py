"""The services' metrics, and their liveness and readiness checks."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import requests
from prometheus_client import CollectorRegistry, generate_latest
from werkzeug.test import Client

from postjournal.cluster.status import Failover
from postjournal.config.settings import Settings
from postjournal.core import messages as m
from postjournal.core.errors import ConfigurationError
from postjournal.subscribe import Progress
from services import monitoring
from services.consumer.metrics import SubscriptionMetrics
from services.leader_view.metrics import TakeoverMetrics, ViewMetrics
from services.replica import exposition
from services.replica import metrics as replica_metrics
from services.replica.engines import Engines
from services.replica.messages import EngineState

SHARD = "7"  # no other test has this shard: the replica's metrics are global


def text_of(*collectors: Any) -> str:
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return generate_latest(registry).decode()


class FakeSubscription:
    def __init__(self) -> None:
        self.unavailable_reason: str | None = None
        self.idle_s = 0.0

    def progress(self) -> Progress:
        return Progress(
            outputs=5, repeats=2, lag_records=3, last_seq={0: 4, 1: 0}, idle_s=self.idle_s
        )


class FakeFollower:
    idle_s = 0.1


class FakeUpdater:
    unavailable_reason = None
    synced_ms = 99_500

    def counts(self) -> tuple[int, int]:
        return 3, 1


# --- the port -------------------------------------------------------------------------------


def test_the_port_serves_metrics_and_checks_and_nothing_else() -> None:
    reasons: dict[str, str | None] = {"live": None, "ready": "Kafka is unavailable"}
    registry = monitoring.process_registry()
    client = Client(
        monitoring.make_app(registry, lambda: reasons["live"], lambda: reasons["ready"])
    )
    assert "process_cpu_seconds_total" in client.get("/metrics").text
    assert client.get("/livez").status_code == 200
    unready = client.get("/readyz")
    assert (unready.status_code, unready.text) == (503, "Kafka is unavailable\n")
    reasons["ready"] = None
    assert client.get("/readyz").status_code == 200
    assert client.get("/").status_code == 404


@contextmanager
def port_in_use() -> Iterator[tuple[socket.socket, Settings]]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        yield other, Settings.from_environment({"POSTJOURNAL_METRICS_PORT": port})


def test_a_port_that_stays_in_use_is_an_error_that_names_the_variable() -> None:
    with (
        port_in_use() as (_, settings),
        pytest.raises(ConfigurationError, match="POSTJOURNAL_METRICS_PORT"),
    ):
        monitoring.serve(settings, CollectorRegistry(), lambda: "", lambda: "", 0.3)


def test_a_port_that_an_exiting_process_still_holds_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with port_in_use() as (other, settings):
        monkeypatch.setattr(monitoring, "sleep", lambda _: other.close())
        monitoring.serve(settings, CollectorRegistry(), lambda: "", lambda: "")
        url = f"http://127.0.0.1:{settings.metrics_port}/livez"
        assert requests.get(url, timeout=5).status_code == 200


# --- the replica ----------------------------------------------------------------------------


def takeover(**changes: Any) -> m.TookOver:
    fields: dict[str, Any] = {
        "epoch": 2,
        "previous": "r1",
        "cause": "tripwire",
        "detect_ms": 3,
        "claim_ms": 4,
        "resume_ms": 5,
    }
    return m.TookOver(**fields | changes)


def metrics_of_a_replica() -> str:
    """What `/metrics` shows of a replica whose one engine is in this process."""
    engines = Engines(1, lambda shard, record: None)
    engines.all[0].scrape = replica_metrics.collect  # type: ignore[method-assign]
    engines.all[0].state = EngineState(0, os.getpid(), None, {"SIGKILL": 2}, "killed by SIGKILL")
    with mock.patch.object(exposition, "REGISTRY", CollectorRegistry()):  # of another process
        return generate_latest(exposition.registry_of("r1", engines)).decode()


def test_what_each_engine_uses_and_how_often_it_ended_is_shown() -> None:
    text = metrics_of_a_replica()
    for cause, count in (("SIGKILL", 2), ("SIGSEGV", 0), ("stuck", 0)):
        series = f'postjournal_engine_ends_total{{cause="{cause}",replica="r1",shard="0"}}'
        assert f"{series} {count}.0" in text
    for name in ("cpu_seconds_total", "resident_memory_bytes", "threads"):
        (value,) = re.findall(rf'postjournal_engine_{name}{{replica="r1",shard="0"}} (\S+)', text)
        assert float(value) > 0


def test_every_sample_names_the_replica() -> None:
    text = metrics_of_a_replica()
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert samples
    assert all('replica="r1"' in line for line in samples)


def test_a_shards_counters_show_zero_before_anything_happens() -> None:
    """Prometheus' `increase` does not see the first event of a series that begins with it."""
    replica_metrics.initialize(SHARD)
    text = metrics_of_a_replica()
    for name in (
        "postjournal_commands_total",
        "postjournal_takeovers_total",
        "postjournal_failover_seconds_count",
        "postjournal_void_records_total",
        "postjournal_digest_alarms_total",
    ):
        found = re.findall(rf'{name}{{.*shard="{SHARD}".*}} (\S+)', text)
        assert found
        assert set(found) == {"0.0"}


def test_a_takeover_is_counted_by_cause_and_its_phases_add_up() -> None:
    replica_metrics.initialize("8")
    replica_metrics.count_failover("8", takeover(), wall_ms=1_700_000_000_123)
    replica_metrics.count_failover("8", takeover(cause="silence", detect_ms=400), 1_700_000_001_000)
    text = metrics_of_a_replica()
    for line in (
        'postjournal_takeovers_total{cause="tripwire",replica="r1",shard="8"} 1.0',
        'postjournal_takeovers_total{cause="silence",replica="r1",shard="8"} 1.0',
        'postjournal_failover_seconds_count{phase="total",replica="r1",shard="8"} 2.0',
        'postjournal_failover_seconds_sum{phase="total",replica="r1",shard="8"} 0.421',
        'postjournal_last_failover_seconds{phase="total",replica="r1",shard="8"} 0.409',
        'postjournal_last_takeover_timestamp_seconds{replica="r1",shard="8"} 1.700000001e+09',
    ):
        assert line in text


def test_exactly_one_role_is_shown() -> None:
    replica_metrics.show_role("9", "standby")
    replica_metrics.show_role("9", "leader")
    text = metrics_of_a_replica()
    assert re.findall(r'role{replica="r1",role="(\w+)",shard="9"} 1.0', text) == ["leader"]


# --- consumers and the view -----------------------------------------------------------------


def test_a_consumers_metrics_are_its_subscriptions_progress() -> None:
    text = text_of(SubscriptionMetrics(FakeSubscription(), "results"))  # type: ignore[arg-type]
    assert 'postjournal_consumer_outputs_total{sink="results"} 5.0' in text
    assert 'postjournal_consumer_repeats_total{sink="results"} 2.0' in text
    assert 'postjournal_consumer_lag_records{sink="results"} 3.0' in text
    assert 'postjournal_consumer_last_seq{shard="0",sink="results"} 4.0' in text


def test_a_consumer_that_hangs_is_not_live_and_one_without_kafka_is_not_ready() -> None:
    subscription = FakeSubscription()
    checks = SubscriptionMetrics(subscription, "results")  # type: ignore[arg-type]
    assert (checks.live(), checks.ready()) == (None, None)
    subscription.idle_s, subscription.unavailable_reason = 31.0, "Kafka is unavailable"
    assert checks.live() == "no poll for 31 s"
    assert checks.ready() == "Kafka is unavailable"


def test_the_view_shows_when_it_was_last_up_to_date() -> None:
    text = text_of(ViewMetrics(FakeFollower(), FakeUpdater()))  # type: ignore[arg-type]
    assert "postjournal_view_synced_timestamp_seconds 99.5" in text
    assert "postjournal_view_replicas 3.0" in text


def test_the_view_counts_takeovers() -> None:
    registry = CollectorRegistry()
    counted = TakeoverMetrics(registry, shards=1)
    assert 'postjournal_view_takeovers_total{cause="silence",shard="0"} 0.0' in text_in(registry)
    durations = {"detect_ms": 401.0, "claim_ms": 3.0, "resume_ms": 5.0, "total_ms": 409.0}
    counted.count(
        Failover(shard=0, epoch=2, previous="r1", leader="r2", cause="silence", time=0, **durations)
    )
    assert 'postjournal_view_takeovers_total{cause="silence",shard="0"} 1.0' in text_in(registry)
    total = 'postjournal_view_failover_seconds_sum{phase="total",shard="0"} 0.409'
    assert total in text_in(registry)


def text_in(registry: CollectorRegistry) -> str:
    return generate_latest(registry).decode()


def test_a_view_that_hangs_is_not_live() -> None:
    follower = FakeFollower()
    checks = ViewMetrics(follower, FakeUpdater())  # type: ignore[arg-type]
    assert checks.live() is None
    follower.idle_s = 31.0
    assert checks.live() == "no turn of the loop for 31 s"
