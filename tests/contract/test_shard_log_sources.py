"""What every `ShardLog` promises about sources: the simulated one and the one on Kafka."""

from __future__ import annotations

import pytest

from tests.support.contract.shard_log import (
    Listener,
    LogUnderTest,
    Received,
    rows,
    values,
)


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
