"""What every `ShardLog` promises: the simulated one and the one on Kafka."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.contract.shard_log import (
    SINK,
    Listener,
    LogUnderTest,
    Received,
    outputs,
    rows,
    values,
)
from tests.support.contract.simulated_log import SimulatedLogUnderTest


@pytest.fixture(params=["simulated", pytest.param("kafka", marks=pytest.mark.kafka)])
def under_test(request: pytest.FixtureRequest) -> Iterator[LogUnderTest]:
    log: LogUnderTest
    if request.param == "simulated":
        log = SimulatedLogUnderTest()
    else:
        from tests.support.contract.kafka_log import KafkaLogUnderTest

        log = KafkaLogUnderTest(request.getfixturevalue("kafka"))
    yield log
    log.close()


@pytest.fixture
def listener(under_test: LogUnderTest) -> Listener:
    return Listener(under_test)


# --- the journal -------------------------------------------------------------------------------


def test_appends_come_back_in_order_with_dense_offsets(
    under_test: LogUnderTest, listener: Listener
) -> None:
    for value in values(200):
        under_test.log.append(value)
    listener.until(lambda received: len(received.journal) >= 200)
    assert listener.listen_briefly().journal == rows(200)


def test_every_append_is_acknowledged_once(under_test: LogUnderTest, listener: Listener) -> None:
    for value in values(50):
        under_test.log.append(value)
    listener.until(lambda received: received.acknowledged >= 50)
    received = listener.listen_briefly()
    assert (received.acknowledged, received.failures) == (50, [])


def test_a_log_reads_the_journal_from_its_beginning(
    under_test: LogUnderTest, listener: Listener
) -> None:
    for value in values(5):
        under_test.log.append(value)
    listener.until(lambda received: received.acknowledged == 5)
    other = under_test.another()
    assert Listener(other).until(lambda received: len(received.journal) == 5).journal == rows(5)


def test_all_logs_read_the_same_order(under_test: LogUnderTest, listener: Listener) -> None:
    other = under_test.another()
    other_listener = Listener(other)
    for number in range(20):
        under_test.log.append(f"a{number}".encode())
        other.log.append(f"b{number}".encode())
    first = listener.until(lambda received: len(received.journal) == 40).journal
    second = other_listener.until(lambda received: len(received.journal) == 40).journal
    assert first == second
    assert [value for _, value in first if value[:1] == b"b"] == [
        f"b{number}".encode() for number in range(20)
    ]


def test_a_big_entry_comes_back_whole(under_test: LogUnderTest, listener: Listener) -> None:
    big = b"x" * 1_000_000
    for value in (b"before", big, b"after"):
        under_test.log.append(value)
    received = listener.until(lambda received: len(received.journal) == 3)
    assert received.journal == [(0, b"before"), (1, big), (2, b"after")]


def test_a_claim_comes_back_and_is_not_acknowledged(
    under_test: LogUnderTest, listener: Listener
) -> None:
    for _ in range(100):  # a late claim is dropped
        under_test.log.append_claim(b"claim")
        if listener.listen_briefly().journal:
            break
    received = listener.listen_briefly()
    assert {value for _, value in received.journal} == {b"claim"}
    assert (received.acknowledged, received.failures) == (0, [])


def test_purging_claims_leaves_appends_alone(under_test: LogUnderTest, listener: Listener) -> None:
    under_test.log.append(b"entry")
    under_test.log.purge_claims()
    listener.until(
        lambda received: received.journal == [(0, b"entry")] and received.acknowledged == 1
    )


def test_forgotten_appends_are_written_and_not_reported(
    under_test: LogUnderTest, listener: Listener
) -> None:
    for value in values(20):
        under_test.log.append(value)
    under_test.log.forget_appends()
    under_test.log.append(b"after")
    listener.until(lambda received: len(received.journal) == 21 and received.acknowledged == 1)
    received = listener.listen_briefly()
    assert (received.journal[-1], received.acknowledged, received.failures) == (
        (20, b"after"),
        1,
        [],
    )


def test_an_append_rejected_by_the_producer_fails_without_affecting_later_ones(
    under_test: LogUnderTest, listener: Listener
) -> None:
    under_test.log.append(b"x" * 9_000_000)
    listener.until(lambda received: len(received.failures) == 1)
    under_test.log.forget_appends()
    under_test.log.append(b"after")
    listener.until(lambda received: received.acknowledged == 1)
    received = listener.listen_briefly()
    assert (received.journal, len(received.failures)) == ([(0, b"after")], 1)


def end_of(under_test: LogUnderTest, listener: Listener) -> int:
    """Probe the journal's end until it is known: the first probes may find no leader."""
    while not listener.received.ends or listener.received.ends[-1] is None:
        before = len(listener.received.ends)
        under_test.log.probe_end()
        listener.until(lambda received: len(received.ends) > before)  # noqa: B023 - called at once
        assert before < 50
    return listener.received.ends[-1]


def test_the_end_of_an_empty_journal_is_0(under_test: LogUnderTest, listener: Listener) -> None:
    assert end_of(under_test, listener) == 0


def test_an_answer_about_the_end_carries_the_token_of_its_request(
    under_test: LogUnderTest, listener: Listener
) -> None:
    for token in ("a", "b"):
        under_test.log.probe_end(token)
    listener.until(lambda received: len(received.end_tokens) == 2)
    assert set(listener.received.end_tokens) == {"a", "b"}


def test_the_end_includes_appends_of_other_logs(
    under_test: LogUnderTest, listener: Listener
) -> None:
    other = under_test.another()
    for value in values(7):
        other.log.append(value)
    Listener(other).until(lambda received: received.acknowledged == 7)
    assert end_of(under_test, listener) == 7


# --- opening the journal -----------------------------------------------------------------------


def test_the_journal_is_delivered_from_exactly_the_offset(
    under_test: LogUnderTest, listener: Listener
) -> None:
    for value in values(30):
        under_test.log.append(value)
    listener.until(lambda received: len(received.journal) == 30)
    listener.reset()
    under_test.log.rewind()
    under_test.log.open_journal(17)
    listener.until(lambda received: len(received.journal) == 13)
    assert listener.listen_briefly().journal == rows(30)[17:]


def test_a_journal_opened_at_its_end_delivers_later_records(
    under_test: LogUnderTest, listener: Listener
) -> None:
    under_test.log.append(b"first")
    listener.until(lambda received: len(received.journal) == 1)
    listener.reset()
    under_test.log.rewind()
    under_test.log.open_journal(1)
    under_test.log.append(b"second")
    listener.until(lambda received: bool(received.journal))
    assert listener.listen_briefly().journal == [(1, b"second")]


def test_after_rewind_nothing_comes_before_the_journal_is_opened(
    under_test: LogUnderTest, listener: Listener
) -> None:
    under_test.log.append(b"first")
    listener.until(lambda received: len(received.journal) == 1)
    listener.reset()
    under_test.log.rewind()
    under_test.log.append(b"second")
    assert listener.listen_briefly().journal == []
    under_test.log.open_journal(0)
    listener.until(lambda received: len(received.journal) == 2)
    assert listener.received.journal == [(0, b"first"), (1, b"second")]


def test_the_end_can_be_probed_before_the_journal_is_opened(
    under_test: LogUnderTest, listener: Listener
) -> None:
    under_test.log.append(b"first")
    listener.until(lambda received: received.acknowledged == 1)
    under_test.log.rewind()
    assert end_of(under_test, listener) == 1


def test_a_journal_trimmed_beyond_the_requested_offset_is_reported(
    under_test: LogUnderTest, listener: Listener
) -> None:
    for value in values(10):
        under_test.log.append(value)
    listener.until(lambda received: len(received.journal) == 10)
    under_test.trim(7)
    listener.reset()
    under_test.log.rewind()
    under_test.log.open_journal(3)
    listener.until(lambda received: received.trimmed == 1)
    assert listener.listen_briefly().journal == []
    under_test.log.rewind()
    under_test.log.open_journal(7)
    listener.until(lambda received: len(received.journal) == 3)
    assert listener.received.journal == rows(10)[7:]


def test_after_rewind_nothing_comes_from_before_it(
    under_test: LogUnderTest, listener: Listener
) -> None:
    under_test.feed("commands", values(5))
    under_test.log.append(b"first")
    listener.until(lambda received: received.acknowledged == 1)
    listener.reset()
    under_test.log.open_sources({})
    under_test.log.open_sink(SINK)
    under_test.log.append(b"second")
    under_test.log.rewind()
    under_test.log.open_journal(0)
    listener.until(lambda received: bool(received.journal))
    received = listener.listen_briefly()
    assert received.journal[0] == (0, b"first")
    assert (received.acknowledged, received.failures, received.sources, received.tails) == (
        0,
        [],
        {},
        [],
    )


def test_after_rewind_appends_are_acknowledged(
    under_test: LogUnderTest, listener: Listener
) -> None:
    under_test.log.append(b"first")
    listener.until(lambda received: received.acknowledged == 1)
    under_test.log.rewind()
    under_test.log.open_journal(0)
    listener.reset()
    under_test.log.append(b"second")
    listener.until(lambda received: received.acknowledged == 1 and len(received.journal) == 2)
    assert listener.received.journal == [(0, b"first"), (1, b"second")]


# --- sources -----------------------------------------------------------------------------------


def source_of(
    under_test: LogUnderTest, received: Received, source: str
) -> list[tuple[int, bytes | None]]:
    return received.sources.get(under_test.topic(source), [])


def test_sources_deliver_nothing_before_they_are_opened(
    under_test: LogUnderTest, listener: Listener
) -> None:
    under_test.feed("commands", values(10))
    under_test.log.append(b"x")
    listener.until(lambda received: len(received.journal) == 1)
    assert listener.listen_briefly().sources == {}


def test_an_opened_source_delivers_from_its_beginning(
    under_test: LogUnderTest, listener: Listener
) -> None:
    under_test.feed("commands", values(10))
    under_test.log.open_sources({})
    listener.until(lambda received: len(source_of(under_test, received, "commands")) == 10)
    assert source_of(under_test, listener.listen_briefly(), "commands") == rows(10)


def test_an_opened_source_delivers_from_exactly_the_offset(
    under_test: LogUnderTest, listener: Listener
) -> None:
    under_test.feed("commands", values(10))
    under_test.log.open_sources({under_test.topic("commands"): 6})
    listener.until(lambda received: len(source_of(under_test, received, "commands")) == 4)
    assert source_of(under_test, listener.listen_briefly(), "commands") == rows(4, 6)


def test_several_sources_have_offsets_of_their_own(
    under_test: LogUnderTest, listener: Listener
) -> None:
    under_test.feed("commands", values(4))
    under_test.feed("feed", values(6))
    under_test.log.open_sources({under_test.topic("commands"): 4, under_test.topic("feed"): 2})
    under_test.feed("commands", values(2, 4))
    listener.until(
        lambda received: (
            len(source_of(under_test, received, "commands")) == 2
            and len(source_of(under_test, received, "feed")) == 4
        )
    )
    assert source_of(under_test, listener.received, "commands") == rows(2, 4)
    assert source_of(under_test, listener.received, "feed") == rows(4, 2)


def test_an_open_source_delivers_later_records(
    under_test: LogUnderTest, listener: Listener
) -> None:
    under_test.log.open_sources({})
    listener.listen_briefly()
    under_test.feed("commands", values(3))
    listener.until(lambda received: len(source_of(under_test, received, "commands")) == 3)
    under_test.feed("commands", values(3, 3))
    listener.until(lambda received: len(source_of(under_test, received, "commands")) == 6)
    assert source_of(under_test, listener.received, "commands") == rows(6)


def test_a_closed_source_delivers_nothing(under_test: LogUnderTest, listener: Listener) -> None:
    under_test.log.open_sources({})
    under_test.feed("commands", values(3))
    listener.until(lambda received: len(source_of(under_test, received, "commands")) == 3)
    under_test.log.close_sources()
    listener.reset()
    under_test.feed("commands", values(3, 3))
    assert listener.listen_briefly().sources == {}


@pytest.mark.parametrize("offset", [0, 5, 10])
def test_a_reopened_source_delivers_from_exactly_the_offset(
    under_test: LogUnderTest, listener: Listener, offset: int
) -> None:
    under_test.feed("commands", values(10))
    under_test.log.open_sources({})
    listener.until(lambda received: len(source_of(under_test, received, "commands")) == 10)
    under_test.log.close_sources()
    under_test.feed("commands", values(2, 10))
    listener.listen_briefly()
    listener.reset()
    under_test.log.open_sources({under_test.topic("commands"): offset})
    listener.until(lambda received: len(source_of(under_test, received, "commands")) >= 12 - offset)
    assert source_of(under_test, listener.listen_briefly(), "commands") == rows(12 - offset, offset)


def test_a_source_reopened_at_once_delivers_only_from_the_new_offset(
    under_test: LogUnderTest, listener: Listener
) -> None:
    under_test.feed("commands", values(1_000))
    under_test.log.open_sources({})
    listener.until(lambda received: bool(received.sources))
    listener.reset()
    under_test.log.open_sources({under_test.topic("commands"): 3})
    listener.until(lambda received: len(source_of(under_test, received, "commands")) >= 997)
    assert source_of(under_test, listener.listen_briefly(), "commands") == rows(997, 3)


def test_pause_and_resume_skip_nothing(under_test: LogUnderTest, listener: Listener) -> None:
    under_test.log.open_sources({})
    for first in range(0, 600, 200):
        under_test.feed("commands", values(200, first))
        listener.until(lambda received: bool(received.sources))
        under_test.log.pause_sources()
        before = len(source_of(under_test, listener.received, "commands"))
        listener.listen_briefly()
        late = len(source_of(under_test, listener.received, "commands")) - before
        assert late == 0, f"{late} records arrived while the sources were paused"
        under_test.log.resume_sources()
    listener.until(lambda received: len(source_of(under_test, received, "commands")) >= 600)
    assert source_of(under_test, listener.listen_briefly(), "commands") == rows(600)


def test_paused_sources_do_not_pause_the_journal(
    under_test: LogUnderTest, listener: Listener
) -> None:
    under_test.log.open_sources({})
    under_test.log.pause_sources()
    under_test.feed("commands", values(3))
    under_test.log.append(b"x")
    listener.until(lambda received: len(received.journal) == 1)
    assert listener.received.sources == {}


def test_a_paused_source_that_is_reopened_is_not_paused(
    under_test: LogUnderTest, listener: Listener
) -> None:
    under_test.log.open_sources({})
    under_test.log.pause_sources()
    under_test.log.close_sources()
    under_test.log.open_sources({})
    under_test.feed("commands", values(3))
    listener.until(lambda received: len(source_of(under_test, received, "commands")) == 3)


def test_a_source_resumed_after_it_was_closed_stays_closed(
    under_test: LogUnderTest, listener: Listener
) -> None:
    under_test.log.open_sources({})
    under_test.log.pause_sources()
    under_test.log.close_sources()
    under_test.log.resume_sources()
    under_test.feed("commands", values(3))
    assert listener.listen_briefly().sources == {}


# --- sinks -------------------------------------------------------------------------------------


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
