"""Asking for a partition's bounds while its leader changes."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from postjournal.adapters.kafka import metadata as topic_metadata
from postjournal.adapters.kafka.metadata import bounds
from postjournal.core.errors import JournalUnavailable


class Asked:
    """A consumer whose broker answers with these errors, then with 3 and 7."""

    def __init__(self, *codes: int) -> None:
        self._codes = list(codes)

    def get_watermark_offsets(self, *arguments: object, **named: object) -> tuple[int, int]:
        if self._codes:
            raise KafkaException(KafkaError(self._codes.pop(0)))
        return 3, 7


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_metadata, "RETRY_S", 0)


def ask(timeout_s: float, *codes: int) -> tuple[int, int]:
    consumer: Any = Asked(*codes)
    return bounds(consumer, "t", 0, timeout_s)


def test_a_partition_without_a_leader_is_asked_again() -> None:
    codes = KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE
    assert ask(60, *codes) == (3, 7)


def test_a_partition_that_stays_without_a_leader_is_unavailable() -> None:
    with pytest.raises(JournalUnavailable, match="t/0: "):
        ask(-1, KafkaError.NOT_LEADER_FOR_PARTITION)


def test_permanent_errors_are_raised_at_once() -> None:
    with pytest.raises(JournalUnavailable):
        ask(60, KafkaError.TOPIC_AUTHORIZATION_FAILED)
