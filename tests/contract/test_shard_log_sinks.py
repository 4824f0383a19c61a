"""What every `ShardLog` promises about sinks: the simulated one and the one on Kafka."""

from __future__ import annotations

from tests.support.contract.shard_log import (
    SINK,
    Listener,
    LogUnderTest,
    outputs,
)


def opened(under_test: LogUnderTest, listener: Listener) -> int:
    """Open the sink and return its tail."""
    listener.reset()
    under_test.log.open_sink(SINK)
    listener.until(lambda received: bool(received.tails))
    (tail,) = listener.received.tails
    assert tail[0] == SINK
    return tail[1]


def publish(under_test: LogUnderTest, listener: Listener, first: int, end: int) -> None:
    """Publish and wait for the acknowledgement."""
    under_test.log.publish(SINK, outputs(first, end))
    listener.until(lambda received: (SINK, end) in received.published)


def test_the_tail_of_an_empty_sink_is_0(under_test: LogUnderTest, listener: Listener) -> None:
    assert opened(under_test, listener) == 0


def test_the_tail_is_one_after_the_last_record(
    under_test: LogUnderTest, listener: Listener
) -> None:
    opened(under_test, listener)
    publish(under_test, listener, 0, 5)
    assert opened(under_test, listener) == 5
    other = under_test.another()
    assert opened(other, Listener(other)) == 5


def test_the_tail_is_a_sequence_and_not_an_offset(
    under_test: LogUnderTest, listener: Listener
) -> None:
    opened(under_test, listener)
    publish(under_test, listener, 40, 42)
    assert opened(under_test, listener) == 42


def test_the_tail_of_a_sink_emptied_by_retention_is_0_at_every_opening(
    under_test: LogUnderTest, listener: Listener
) -> None:
    opened(under_test, listener)
    publish(under_test, listener, 0, 5)
    under_test.empty_sink()
    assert [opened(under_test, listener) for _ in range(3)] == [0, 0, 0]
    publish(under_test, listener, 5, 7)
    assert opened(under_test, listener) == 7


def test_published_rises_in_order_up_to_the_last(
    under_test: LogUnderTest, listener: Listener
) -> None:
    opened(under_test, listener)
    for first in range(0, 300, 10):
        under_test.log.publish(SINK, outputs(first, first + 10))
    received = listener.until(lambda received: (SINK, 300) in received.published)
    marks = [mark for _, mark in received.published]
    assert marks == sorted(marks)
    assert under_test.sink_seqs() == list(range(300))
    assert received.failures == []


def test_published_outputs_are_in_the_sink_when_they_are_reported(
    under_test: LogUnderTest, listener: Listener
) -> None:
    opened(under_test, listener)
    publish(under_test, listener, 0, 3)
    assert under_test.sink_seqs() == [0, 1, 2]


def test_publishing_continues_after_reopening(under_test: LogUnderTest, listener: Listener) -> None:
    opened(under_test, listener)
    publish(under_test, listener, 0, 3)
    assert opened(under_test, listener) == 3
    publish(under_test, listener, 3, 6)
    assert under_test.sink_seqs() == [0, 1, 2, 3, 4, 5]


def test_outputs_queued_when_the_sink_is_reopened_are_not_reported(
    under_test: LogUnderTest, listener: Listener
) -> None:
    opened(under_test, listener)
    publish(under_test, listener, 0, 1)
    under_test.log.publish(SINK, outputs(1, 50))
    opened(under_test, listener)
    received = listener.listen_briefly()
    assert (received.published, received.failures) == ([], [])


def test_what_is_written_is_a_prefix_even_if_the_sink_is_reopened(
    under_test: LogUnderTest, listener: Listener
) -> None:
    opened(under_test, listener)
    publish(under_test, listener, 0, 1)
    under_test.log.publish(SINK, outputs(1, 50))
    opened(under_test, listener)
    listener.listen_briefly()
    seqs = under_test.sink_seqs()
    assert seqs == list(range(len(seqs)))


def test_closed_sinks_report_nothing(under_test: LogUnderTest, listener: Listener) -> None:
    opened(under_test, listener)
    publish(under_test, listener, 0, 1)
    listener.reset()
    under_test.log.publish(SINK, outputs(1, 50))
    under_test.log.open_sink("balances")
    under_test.log.close_sinks()
    received = listener.listen_briefly()
    assert (received.published, received.tails, received.failures) == ([], [], [])


def test_several_sinks_are_opened_at_once(under_test: LogUnderTest, listener: Listener) -> None:
    for sink in ("results", "balances", "deadletter"):
        under_test.log.open_sink(sink)
    received = listener.until(lambda received: len(received.tails) == 3)
    assert sorted(received.tails) == [("balances", 0), ("deadletter", 0), ("results", 0)]
