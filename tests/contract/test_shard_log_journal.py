"""What every `ShardLog` promises about the journal: the simulated one and the one on Kafka."""

from __future__ import annotations

from tests.support.contract.shard_log import (
    SINK,
    Listener,
    LogUnderTest,
    rows,
    values,
)

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
