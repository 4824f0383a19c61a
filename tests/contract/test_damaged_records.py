"""Records on the broker's disk that librdkafka cannot read: their checksum is wrong.

A broker does not check what it sends, as a damaged disk shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from postjournal.adapters.kafka.engine import fetch_watch
from postjournal.cli.local.system import LocalSystem
from postjournal.core import messages as m
from tests.support.contract.kafka_log import KafkaLogUnderTest
from tests.support.contract.shard_log import Listener

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.parametrize("under_test", ["kafka"], indirect=True),
]

DAMAGED = b"value-to-damage"


@contextmanager
def damaged(system: LocalSystem, topic: str) -> Iterator[None]:
    """Meanwhile the record DAMAGED of `topic` has another value than its checksum says."""
    (segment,) = (system.layout.data / "kafka").glob(f"**/{topic}-0/*.log")
    offset = segment.read_bytes().index(DAMAGED)
    with segment.open("r+b") as file:
        file.seek(offset)
        file.write(DAMAGED.upper())
    try:
        yield
    finally:
        with segment.open("r+b") as file:
            file.seek(offset)
            file.write(DAMAGED)


def put_each(under_test: KafkaLogUnderTest, topic: str) -> None:
    """Three records, each in a batch of its own."""
    for value in (b"before", DAMAGED, b"after"):
        under_test.put(topic, [value])


def test_nothing_behind_a_source_record_that_cannot_be_read_is_delivered(
    under_test: KafkaLogUnderTest,
    listener: Listener,
    storage: LocalSystem,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetch_watch, "CHECK_S", 0.5)
    monkeypatch.setattr(fetch_watch, "STALL_S", 1.0)
    topic = under_test.topic("commands")
    put_each(under_test, topic)
    with damaged(storage, topic):
        under_test.log.open_sources({})
        listener.until(lambda _: under_test.kafka_log.unavailable_reason is not None)
        reason = under_test.kafka_log.unavailable_reason
        assert reason is not None and f"{topic} cannot be read" in reason and "CRC32C" in reason
        received = listener.until(lambda received: bool(received.failures))
        assert [type(failure) for failure in received.failures] == [m.SourceStalled]
        assert received.sources.get(topic, []) in ([], [(0, b"before")])
    received = listener.until(lambda received: len(received.sources.get(topic, [])) == 3)
    assert [offset for offset, _ in received.sources[topic]] == [0, 1, 2]


def test_nothing_behind_a_journal_record_that_cannot_be_read_is_delivered(
    under_test: KafkaLogUnderTest, listener: Listener, storage: LocalSystem
) -> None:
    topic = under_test.topics.journal
    put_each(under_test, topic)
    listener.until(lambda received: len(received.journal) == 3)
    with damaged(storage, topic):
        other = under_test.another()
        assert isinstance(other, KafkaLogUnderTest)
        log = other.kafka_log
        second = Listener(other)
        second.until(lambda _: log.unavailable_reason is not None)
        assert "CRC32C" in str(log.unavailable_reason)
        assert second.listen_briefly().journal in ([], [(0, b"before")])
    received = second.until(lambda received: len(received.journal) == 3)
    assert [offset for offset, _ in received.journal] == [0, 1, 2]
