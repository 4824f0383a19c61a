"""Settings and timeouts that are part of the contract; see docs/design.md, "Limits"."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.config.settings import KafkaAccess
from postjournal.core.limits import Limits

KAFKA = KafkaAccess("localhost:9092")

PRODUCERS: dict[str, Callable[[KafkaAccess], kafka_settings.Config]] = {
    name: make
    for name, make in inspect.getmembers(kafka_settings, inspect.isfunction)
    if name.endswith("_producer") and not name.startswith("_")
}


@pytest.mark.parametrize("name", PRODUCERS)
def test_an_acknowledged_record_is_on_all_in_sync_replicas(name: str) -> None:
    assert PRODUCERS[name](KAFKA)["acks"] == "all"


def test_every_producer_is_checked() -> None:
    kinds = {"journal", "claim", "sink", "gateway", "control"}
    assert set(PRODUCERS) == {f"{kind}_producer" for kind in kinds}


def test_a_sinks_producer_is_idempotent_and_never_gives_up_on_a_record() -> None:
    settings = kafka_settings.sink_producer(KAFKA)
    assert settings["message.timeout.ms"] == 0
    assert settings["enable.idempotence"] is True


def test_heartbeat_silence_and_readback_times_are_as_the_contract_says() -> None:
    limits = Limits()
    assert (limits.heartbeat_ms, limits.silence_ms, limits.readback_ms) == (100, 400, 2_000)
