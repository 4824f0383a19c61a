"""What only the log on a real Kafka promises: its topics are others' as well."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.harness import SINK, Listener
from tests.contract.real import KafkaHarness

pytestmark = pytest.mark.kafka

NESTED = b'{"x":' + b"[" * 100_000
"""msgspec raises RecursionError for it."""


@pytest.fixture
def harness(kafka: str) -> Iterator[KafkaHarness]:
    made = KafkaHarness(kafka)
    yield made
    made.close()


@pytest.fixture
def ear(harness: KafkaHarness) -> Listener:
    return Listener(harness)


# --- sinks -------------------------------------------------------------------------------------


def test_a_foreign_record_at_a_sinks_end_holds_up_no_other_sink_and_only_until_it_is_gone(
    harness: KafkaHarness, ear: Listener
) -> None:
    harness.put(harness.topics.sink_topics[SINK], [NESTED])
    harness.put(harness.topics.sink_topics["balances"], [b'{"seq":2}'])
    harness.log.open_sink(SINK)
    harness.log.open_sink("balances")
    ear.until(lambda heard: heard.tails == [("balances", 3)])
    ear.a_while()
    harness.put(harness.topics.sink_topics[SINK], [b'{"seq":4}'])
    ear.until(lambda heard: heard.tails == [("balances", 3), (SINK, 5)])
