"""Publishing to a sink, without Kafka."""

from __future__ import annotations

from threading import Event
from typing import Any, ClassVar

import pytest

from postjournal.adapters.kafka import client as kafka_client
from postjournal.adapters.kafka.engine.lasting_errors import LastingErrors
from postjournal.adapters.kafka.engine.sink import SinkWriter
from postjournal.config.settings import KafkaAccess
from postjournal.core.state.outbox import Outputs


class SlowProducer:
    """Its broker answers when `answer` is set."""

    answer = Event()
    log: ClassVar[list[str]] = []

    def __init__(self, config: dict[str, Any]) -> None:
        pass

    def list_topics(self, topic: str, timeout: float) -> None:
        self.log.append("answered" if self.answer.wait(10) else "no answer")

    def produce(self, *record: Any) -> None:
        pass

    def purge(self, in_queue: bool, in_flight: bool) -> None:
        pass

    def close(self) -> None:
        self.log.append("closed")


def test_a_new_producer_connects_in_the_background_and_is_not_closed_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kafka_client, "Producer", SlowProducer)
    SlowProducer.answer.set()
    kafka = KafkaAccess("kafka:9092")
    writer = SinkWriter(kafka, "results", "ledger.results", 0, LastingErrors())
    SlowProducer.answer.clear()
    SlowProducer.log.clear()
    for _ in range(2):
        writer.write(Outputs(0, [b'{"seq":0}']))
        writer.renew_if_used()
    assert SlowProducer.log in ([], ["closed"])  # the first one, which had its answer
    SlowProducer.answer.set()
