"""Subscriptions on a real Kafka: groups, positions, starts, gaps."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Mapping

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.config.settings import KafkaAccess
from postjournal.core.errors import JournalUnavailable, RecordsMissing, SequenceGap
from postjournal.core.sequence import Position
from postjournal.subscribe import Start, Subscription, subscribe
from tests.support.services import outputs
from tests.support.topics import publish

pytestmark = pytest.mark.kafka


@pytest.fixture
def topic(kafka: str) -> str:
    name = f"test-{uuid.uuid4().hex[:8]}.results"
    make(kafka, name)
    return name


def make(kafka: str, topic: str, partitions: int = 1) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    new = NewTopic(topic, num_partitions=partitions, replication_factor=1)
    admin.create_topics([new], operation_timeout=10)[topic].result(60)


def delete_before(kafka: str, topic: str, offset: int) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    place = TopicPartition(topic, 0, offset)
    admin.delete_records([place])[place].result(60)


def take(subscription: Subscription, count: int, timeout_s: float = 120) -> list[int]:
    """The next `count` sequences."""
    got: list[int] = []
    deadline = time.monotonic() + timeout_s
    while len(got) < count:
        assert time.monotonic() < deadline, got
        got += [output.seq for output in subscription.poll(0.2)]
    return got


def commit(subscription: Subscription) -> None:
    """Until a slow broker has answered in time."""
    for _ in range(60):
        with contextlib.suppress(JournalUnavailable):
            subscription.commit()
            return
    raise AssertionError("nothing could be committed")


def begin(subscription: Subscription) -> None:
    """Until it has its places, before anything comes."""
    deadline, ready = time.monotonic() + 120, 0
    while ready < 2:  # the poll after the one that got the partitions finds the places
        assert time.monotonic() < deadline, subscription.unavailable_reason
        assert subscription.poll(0.1) == []
        ready = 0 if subscription.unavailable_reason else ready + 1


def quiet(subscription: Subscription, seconds: float = 1.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if subscription.poll(0.2):
            return False
    return True


def test_late_duplicates_in_the_topic_are_not_returned(kafka: str, topic: str) -> None:
    publish(kafka, topic, outputs([0, 1, 2, 1, 2, 3, 0, 4]))
    with subscribe(kafka, topic, group=topic) as subscription:
        assert take(subscription, 5) == [0, 1, 2, 3, 4]


def test_the_next_subscriber_continues_at_the_committed_position(kafka: str, topic: str) -> None:
    publish(kafka, topic, outputs([0, 1, 2]))
    with subscribe(kafka, topic, group=topic) as subscription:
        take(subscription, 3)
        commit(subscription)
    publish(kafka, topic, outputs([1, 2, 3]))
    with subscribe(kafka, topic, group=topic) as subscription:
        assert take(subscription, 1) == [3]


def test_what_was_not_committed_is_returned_again(kafka: str, topic: str) -> None:
    publish(kafka, topic, outputs([0, 1]))
    with subscribe(kafka, topic, group=topic) as subscription:
        take(subscription, 2)
    with subscribe(kafka, topic, group=topic) as subscription:
        assert take(subscription, 2) == [0, 1]


def test_a_partition_that_moves_to_another_member_keeps_its_position(kafka: str) -> None:
    topic = f"test-{uuid.uuid4().hex[:8]}.results"
    make(kafka, topic, partitions=2)
    for partition in (0, 1):
        publish(kafka, topic, outputs([0, 1]), partition)
    with subscribe(kafka, topic, group=topic) as first:
        assert sorted(take(first, 4)) == [0, 0, 1, 1]
        commit(first)
        with subscribe(kafka, topic, group=topic) as second:
            for partition in (0, 1):
                publish(kafka, topic, outputs([1, 2]), partition)
            got: set[tuple[int, int]] = set()  # what could not be committed comes again
            deadline = time.monotonic() + 120
            while len(got) < 2:
                assert time.monotonic() < deadline
                for member in (first, second):
                    got |= {(output.partition, output.seq) for output in member.poll(0.1)}
                    commit(member)
            assert got == {(0, 2), (1, 2)}


def test_a_gap_is_raised_after_the_outputs_before_it(kafka: str, topic: str) -> None:
    publish(kafka, topic, outputs([0, 1, 3]))
    with subscribe(kafka, topic, group=topic) as subscription:
        assert take(subscription, 2) == [0, 1]
        commit(subscription)
        with pytest.raises(SequenceGap, match="expected seq 2, got 3"):
            take(subscription, 1)
        with pytest.raises(SequenceGap):  # it does not go away by trying again
            subscription.poll(0.2)
    with subscribe(kafka, topic, group=topic) as subscription, pytest.raises(SequenceGap):
        take(subscription, 1)


def test_where_retention_has_trimmed_the_topic_a_window_finds_the_position(
    kafka: str, topic: str
) -> None:
    publish(kafka, topic, outputs([0, 1, 2, 3, 4, 1, 2, 5, 6]))
    delete_before(kafka, topic, 5)
    with subscribe(kafka, topic, group=topic) as subscription:
        assert take(subscription, 2) == [5, 6]
        publish(kafka, topic, outputs([6, 7]))
        assert take(subscription, 1) == [7]


def test_retention_that_overtook_a_subscriber_is_a_gap(kafka: str, topic: str) -> None:
    publish(kafka, topic, outputs([0, 1]))
    with subscribe(kafka, topic, group=topic) as subscription:
        take(subscription, 2)
        commit(subscription)
    publish(kafka, topic, outputs([2, 3, 4]))
    delete_before(kafka, topic, 4)
    with subscribe(kafka, topic, group=topic) as subscription, pytest.raises(SequenceGap):
        take(subscription, 1)


@pytest.mark.parametrize("before", [[], [0], [0, 1, 2, 0, 1]])
def test_from_the_end_exactly_the_new_outputs_are_returned(
    kafka: str, topic: str, before: list[int]
) -> None:
    publish(kafka, topic, outputs(before))
    start: Start = "end"
    with subscribe(kafka, topic, group=topic, start=start) as subscription:
        begin(subscription)
        assert quiet(subscription)
        commit(subscription)
        new = len(set(before))
        publish(kafka, topic, outputs([*before[-1:], new, new + 1]))
        assert take(subscription, 2) == [new, new + 1]


def test_an_offset_that_another_tool_has_set_is_checked(kafka: str, topic: str) -> None:
    publish(kafka, topic, outputs([0, 1, 2, 1, 3]))
    tool = Consumer(kafka_settings.subscriber_consumer(KafkaAccess(kafka), topic))
    tool.commit(offsets=[TopicPartition(topic, 0, 3)], asynchronous=False)
    tool.close()
    with subscribe(kafka, topic, group=topic) as subscription:
        assert take(subscription, 1) == [3]


def test_a_topic_that_does_not_exist_yet_is_waited_for(kafka: str) -> None:
    topic = f"test-{uuid.uuid4().hex[:8]}.results"
    with subscribe(kafka, topic, group=topic) as subscription:
        assert subscription.poll(0.1) == []
        make(kafka, topic)
        publish(kafka, topic, outputs([0]))
        assert take(subscription, 1) == [0]


def test_iterating_commits_batch_by_batch(kafka: str, topic: str) -> None:
    publish(kafka, topic, outputs(range(3)))
    with subscribe(kafka, topic, group=topic) as subscription:
        for output in subscription:
            if output.seq == 2:
                publish(kafka, topic, outputs([3]))
            if output.seq == 3:
                break
    with subscribe(kafka, topic, group=topic) as subscription:
        assert take(subscription, 1) == [3]


class Memory:
    """Positions of the test's own."""

    def __init__(self) -> None:
        self.places: dict[int, Position] = {}

    def load(self, partition: int) -> Position | None:
        return self.places.get(partition)

    def save(self, positions: Mapping[int, Position]) -> None:
        self.places |= positions


def test_positions_may_be_kept_in_another_store(kafka: str, topic: str) -> None:
    memory = Memory()
    publish(kafka, topic, outputs([0, 1]))
    with subscribe(kafka, topic, positions=memory) as subscription:
        take(subscription, 2)
        commit(subscription)
    assert memory.places == {0: Position(2, 1)}
    publish(kafka, topic, outputs([1, 2]))
    with subscribe(kafka, topic, positions=memory) as subscription:
        assert take(subscription, 1) == [2]


def test_reload_goes_back_to_the_saved_position(kafka: str, topic: str) -> None:
    memory = Memory()
    publish(kafka, topic, outputs([0, 1, 2]))
    with subscribe(kafka, topic, positions=memory) as subscription:
        take(subscription, 3)
        memory.places[0] = Position(1, 0)
        subscription.reload()
        assert take(subscription, 2) == [1, 2]


def test_a_position_beyond_the_topics_end_is_an_error(kafka: str, topic: str) -> None:
    memory = Memory()
    memory.places[0] = Position(500, 499)
    with (
        subscribe(kafka, topic, positions=memory) as subscription,
        pytest.raises(RecordsMissing, match="was recreated"),
    ):
        take(subscription, 1)


@pytest.mark.parametrize(
    "foreign", [b"rubbish", b'{"x":' + b"[" * 100_000], ids=["rubbish", "nested"]
)
def test_a_malformed_record_is_skipped(kafka: str, topic: str, foreign: bytes) -> None:
    publish(kafka, topic, [*outputs([0]), foreign, *outputs([1])])
    with subscribe(kafka, topic, group=topic) as subscription:
        assert take(subscription, 2) == [0, 1]


def test_without_kafka_a_poll_returns_no_outputs() -> None:
    with subscribe("127.0.0.1:1", "t", group="g") as subscription:
        assert subscription.poll(0.1) == []
