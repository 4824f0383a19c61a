"""The gateway's client of Kafka when librdkafka is at its wits' end."""

from __future__ import annotations

import time
from typing import Any

import pytest

from postjournal.core.errors import JournalUnavailable
from services.producer import kafka_commands
from services.producer.kafka_commands import KafkaCommandLog
from services.producer.metrics import Metrics


class Deaf:
    """A producer; the first one made has lost all its brokers."""

    made = 0

    def __init__(self, settings: dict[str, Any]) -> None:
        type(self).made += 1
        self.number = type(self).made

    def poll(self, timeout_s: float) -> None:
        time.sleep(min(timeout_s, 0.01))

    def flush(self, timeout_s: float) -> None:
        pass

    def purge(self) -> None:
        pass


def test_a_client_that_no_broker_answers_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stayed away for ever after a restart of the broker, with Kafka there."""

    def partitions(producer: Deaf, topic: str, timeout_s: float) -> int:
        if producer.number == 1:
            raise JournalUnavailable("no broker answers")
        return 1

    monkeypatch.setattr(Deaf, "made", 0)
    monkeypatch.setattr(kafka_commands, "Producer", Deaf)
    monkeypatch.setattr(kafka_commands, "partition_count", partitions)
    monkeypatch.setattr(kafka_commands, "REPLACE_S", 0.05)
    log = KafkaCommandLog("b:1", "t", 1, Metrics(), lambda error: None)
    try:
        deadline = time.monotonic() + 20
        while log.trouble:
            assert time.monotonic() < deadline, log.trouble
            time.sleep(0.01)
    finally:
        log.close()
    assert Deaf.made == 2
