"""New outputs are distinguished from late repetitions, without Kafka."""

import threading
from typing import cast

import pytest
from confluent_kafka import Consumer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from postjournal.adapters.kafka.group_positions import GroupPositions
from postjournal.core.errors import ConfigurationError, JournalUnavailable, SequenceGap
from postjournal.core.sequence import (
    PartitionReader,
    Position,
    Received,
    SequenceTracker,
    last_before,
)
from postjournal.subscribe import subscribe

TOPIC = "ledger.results"


def records(sequences: list[int], first_offset: int = 0) -> list[Received]:
    return [Received(TOPIC, 0, first_offset + i, seq, b"", 0) for i, seq in enumerate(sequences)]


def returned(reader: PartitionReader, incoming: list[Received], now_ms: int = 0) -> list[int]:
    return [out.seq for record in incoming for out in reader.take(record, now_ms)]


def test_each_sequence_is_new_once() -> None:
    tracker = SequenceTracker(TOPIC, 0)
    assert [tracker.is_new(seq) for seq in (0, 1, 0, 1, 2)] == [True, True, False, False, True]


def test_a_gap_is_an_error_that_names_the_missing_sequence() -> None:
    tracker = SequenceTracker(TOPIC, 3, last_seq=4)
    with pytest.raises(SequenceGap) as gap:
        tracker.is_new(7)
    assert (gap.value.topic, gap.value.partition) == (TOPIC, 3)
    assert (gap.value.expected, gap.value.got) == (5, 7)
    assert tracker.last_seq == 4


def test_a_late_duplicate_is_dropped() -> None:
    reader = PartitionReader(TOPIC, 0, Position(10, 4))
    assert returned(reader, records([5, 3, 4, 6], first_offset=10)) == [5, 6]
    assert reader.position == Position(14, 6)


def test_the_topics_first_record_is_returned_at_once() -> None:
    reader = PartitionReader(TOPIC, 0)
    assert returned(reader, records([0])) == [0]
    assert reader.position == Position(1, 0)


def test_a_late_duplicate_after_retention_has_deleted_records_is_not_a_gap() -> None:
    reader = PartitionReader(TOPIC, 0, window_records=4)
    assert returned(reader, records([50, 51, 100, 101, 102], first_offset=7)) == [100, 101, 102]


def test_no_position_is_known_while_the_window_is_open() -> None:
    reader = PartitionReader(TOPIC, 0, window_records=4)
    assert returned(reader, records([50, 51], first_offset=7)) == []
    assert reader.position is None


def test_a_window_ends_after_a_time_when_few_records_come() -> None:
    reader = PartitionReader(TOPIC, 0, window_ms=1_000)
    returned(reader, records([7, 8], first_offset=7), now_ms=5_000)
    assert reader.expire(5_999) == []
    assert [out.seq for out in reader.expire(6_000)] == [7, 8]
    assert reader.position == Position(9, 8)


def test_from_the_end_nothing_before_it_is_returned() -> None:
    reader = PartitionReader(TOPIC, 0, skip_until=13)
    assert returned(reader, records([40, 41, 20, 42], first_offset=10)) == [42]
    assert reader.position == Position(14, 42)


def test_from_the_end_a_late_duplicate_is_detected_by_the_records_before_it() -> None:
    reader = PartitionReader(TOPIC, 0, skip_until=12)
    assert returned(reader, records([40, 41, 39, 42], first_offset=10)) == [42]


def test_from_the_end_the_position_is_known_before_the_first_new_output() -> None:
    reader = PartitionReader(TOPIC, 0, skip_until=12)
    returned(reader, records([40, 41], first_offset=10))
    assert reader.position == Position(12, 41)


def test_when_retention_deletes_the_records_before_the_end_a_window_finds_the_position() -> None:
    reader = PartitionReader(TOPIC, 0, skip_until=12, window_ms=1_000)
    assert returned(reader, records([42, 43], first_offset=12)) == []
    assert [out.seq for out in reader.expire(1_000)] == [42, 43]


def test_an_offset_that_another_tool_has_set_needs_a_window() -> None:
    reader = PartitionReader(TOPIC, 0, Position(7, None), window_records=2)
    assert reader.position is None
    assert returned(reader, records([3, 9, 10], first_offset=7)) == [9, 10]


def test_the_position_stays_at_a_gap() -> None:
    reader = PartitionReader(TOPIC, 0, Position(10, 4))
    with pytest.raises(SequenceGap):
        reader.take(records([6], first_offset=10)[0], 0)
    assert reader.position == Position(10, 4)


@st.composite
def published(draw: st.DrawFn) -> list[int]:
    """A sink's topic: each leader begins at most one past the highest sequence before it."""
    topic: list[int] = []
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, max(topic, default=-1) + 1))
        topic += range(start, start + draw(st.integers(1, 8)))
    return topic


@given(published())
def test_a_whole_topic_gives_every_sequence_once_in_order(topic: list[int]) -> None:
    out = returned(PartitionReader(TOPIC, 0), records(topic))
    assert out == list(range(max(topic) + 1))


@given(published(), st.data())
def test_a_restart_anywhere_loses_and_repeats_nothing(
    topic: list[int], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(1, len(topic)))
    first, second = records(topic)[:cut], records(topic)[cut:]
    before = PartitionReader(TOPIC, 0)
    out = returned(before, first)
    out += returned(PartitionReader(TOPIC, 0, before.position), second)
    assert out == list(range(max(topic) + 1))


@given(published(), st.data())
def test_a_window_that_sees_the_highest_sequence_leaves_no_gap(
    topic: list[int], data: st.DataObject
) -> None:
    """Retention may delete any prefix, also one that ends amid late repetitions."""
    cut = data.draw(st.integers(1, len(topic) - 1)) if len(topic) > 1 else 0
    rest = records(topic)[cut:]
    reader = PartitionReader(TOPIC, 0, window_records=len(rest))
    out = returned(reader, rest)
    assert out == list(range(out[0], max(r.seq for r in rest) + 1))


@given(published(), st.data())
def test_a_subscriber_that_starts_at_the_end_gets_exactly_the_new_outputs(
    topic: list[int], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(1, len(topic)))
    reader = PartitionReader(TOPIC, 0, skip_until=cut)
    out = returned(reader, records(topic))
    assert out == list(range(max(topic[:cut]) + 1, max(topic) + 1))


def test_the_last_seq_is_that_of_the_newest_unbroken_run() -> None:
    assert last_before([5, 6, 7]) == 4
    assert last_before([5, 6, 20, 21, 6, 22]) == 19
    assert last_before([0, 1]) == -1


def test_a_subscription_needs_a_store_for_its_positions() -> None:
    with pytest.raises(ConfigurationError, match="a group, or a store"):
        subscribe("localhost:1", TOPIC)


def test_a_group_and_partitions_exclude_each_other() -> None:
    with pytest.raises(ConfigurationError, match="either group or partitions"):
        subscribe("localhost:1", TOPIC, group="g", partitions=[0])


class HungConsumer:
    """Its commits are not answered until `answer` is set."""

    def __init__(self) -> None:
        self.answer = threading.Event()
        self.committed: list[int] = []

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition]:
        assert not asynchronous
        self.answer.wait(10)
        self.committed.append(offsets[0].offset)
        return offsets


def test_a_commit_without_an_answer_fails_in_time_and_is_never_overtaken() -> None:
    consumer = HungConsumer()
    positions = GroupPositions(cast(Consumer, consumer), TOPIC, timeout_s=0.01)
    for _ in range(2):
        with pytest.raises(JournalUnavailable, match="no answer in time"):
            positions.save({0: Position(5, 4)})
    assert not positions.is_idle()
    consumer.answer.set()
    wait_for(positions)
    positions.save({0: Position(7, 6)})
    assert consumer.committed == [5, 7]


class CommitOfAnotherTool:
    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [TopicPartition(TOPIC, 0, 5, '{"x":' + "[" * 4_000)]


def test_metadata_that_another_tool_has_stored_is_not_a_sequence() -> None:
    positions = GroupPositions(cast(Consumer, CommitOfAnotherTool()), TOPIC, timeout_s=1.0)
    assert positions.load(0) == Position(5, None)


def wait_for(positions: GroupPositions) -> None:
    while not positions.is_idle():
        pass  # `is_idle` itself waits
