"""What every `ShardLog` promises: the one in memory, and the one on Kafka."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.contract.shard_log import SINK, Harness, Heard, Listener, outputs, rows, values
from tests.support.contract.simulated_log import SimulatedHarness


@pytest.fixture(params=["simulated", pytest.param("kafka", marks=pytest.mark.kafka)])
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    made: Harness
    if request.param == "simulated":
        made = SimulatedHarness()
    else:
        from tests.support.contract.kafka_log import KafkaHarness

        made = KafkaHarness(request.getfixturevalue("kafka"))
    yield made
    made.close()


@pytest.fixture
def ear(harness: Harness) -> Listener:
    return Listener(harness)


# --- the journal -------------------------------------------------------------------------------


def test_appends_come_back_in_order_with_dense_offsets(harness: Harness, ear: Listener) -> None:
    for value in values(200):
        harness.log.append(value)
    ear.until(lambda heard: len(heard.journal) >= 200)
    assert ear.a_while().journal == rows(200)


def test_every_append_is_acknowledged_once(harness: Harness, ear: Listener) -> None:
    for value in values(50):
        harness.log.append(value)
    ear.until(lambda heard: heard.landed >= 50)
    heard = ear.a_while()
    assert (heard.landed, heard.failures) == (50, [])


def test_a_log_reads_the_journal_from_its_beginning(harness: Harness, ear: Listener) -> None:
    for value in values(5):
        harness.log.append(value)
    ear.until(lambda heard: heard.landed == 5)
    other = harness.another()
    assert Listener(other).until(lambda heard: len(heard.journal) == 5).journal == rows(5)


def test_all_logs_read_the_same_order(harness: Harness, ear: Listener) -> None:
    other = harness.another()
    other_ear = Listener(other)
    for number in range(20):
        harness.log.append(f"a{number}".encode())
        other.log.append(f"b{number}".encode())
    first = ear.until(lambda heard: len(heard.journal) == 40).journal
    second = other_ear.until(lambda heard: len(heard.journal) == 40).journal
    assert first == second
    assert [value for _, value in first if value[:1] == b"b"] == [
        f"b{number}".encode() for number in range(20)
    ]


def test_a_big_entry_comes_back_whole(harness: Harness, ear: Listener) -> None:
    big = b"x" * 1_000_000
    for value in (b"before", big, b"after"):
        harness.log.append(value)
    heard = ear.until(lambda heard: len(heard.journal) == 3)
    assert heard.journal == [(0, b"before"), (1, big), (2, b"after")]


def test_a_claim_comes_back_and_is_not_acknowledged(harness: Harness, ear: Listener) -> None:
    for _ in range(100):  # a claim that is late is not sent any more
        harness.log.append_claim(b"claim")
        if ear.a_while().journal:
            break
    heard = ear.a_while()
    assert {value for _, value in heard.journal} == {b"claim"}
    assert (heard.landed, heard.failures) == (0, [])


def test_purging_claims_leaves_appends_alone(harness: Harness, ear: Listener) -> None:
    harness.log.append(b"entry")
    harness.log.purge_claims()
    ear.until(lambda heard: heard.journal == [(0, b"entry")] and heard.landed == 1)


def test_appends_that_are_forgotten_land_and_are_not_reported(
    harness: Harness, ear: Listener
) -> None:
    for value in values(20):
        harness.log.append(value)
    harness.log.forget_appends()
    harness.log.append(b"after")
    ear.until(lambda heard: len(heard.journal) == 21 and heard.landed == 1)
    heard = ear.a_while()
    assert (heard.journal[-1], heard.landed, heard.failures) == ((20, b"after"), 1, [])


def test_an_append_that_is_not_even_taken_fails_and_costs_none_that_follows(
    harness: Harness, ear: Listener
) -> None:
    harness.log.append(b"x" * 9_000_000)
    ear.until(lambda heard: len(heard.failures) == 1)
    harness.log.forget_appends()
    harness.log.append(b"after")
    ear.until(lambda heard: heard.landed == 1)
    heard = ear.a_while()
    assert (heard.journal, len(heard.failures)) == ([(0, b"after")], 1)


def end_of(harness: Harness, ear: Listener) -> int:
    """Ask for the journal's end until there is an answer: at first there may be none."""
    while not ear.heard.ends or ear.heard.ends[-1] is None:
        asked = len(ear.heard.ends)
        harness.log.probe_end()
        ear.until(lambda heard: len(heard.ends) > asked)  # noqa: B023 - called at once
        assert asked < 50
    return ear.heard.ends[-1]


def test_the_end_of_an_empty_journal_is_0(harness: Harness, ear: Listener) -> None:
    assert end_of(harness, ear) == 0


def test_an_answer_about_the_end_tells_which_question_it_answers(
    harness: Harness, ear: Listener
) -> None:
    for token in ("a", "b"):
        harness.log.probe_end(token)
    ear.until(lambda heard: len(heard.end_tokens) == 2)
    assert set(ear.heard.end_tokens) == {"a", "b"}


def test_the_end_counts_what_others_appended(harness: Harness, ear: Listener) -> None:
    other = harness.another()
    for value in values(7):
        other.log.append(value)
    Listener(other).until(lambda heard: heard.landed == 7)
    assert end_of(harness, ear) == 7


# --- opening the journal -----------------------------------------------------------------------


def test_the_journal_is_delivered_from_exactly_the_offset(harness: Harness, ear: Listener) -> None:
    for value in values(30):
        harness.log.append(value)
    ear.until(lambda heard: len(heard.journal) == 30)
    ear.forget()
    harness.log.rewind()
    harness.log.open_journal(17)
    ear.until(lambda heard: len(heard.journal) == 13)
    assert ear.a_while().journal == rows(30)[17:]


def test_a_journal_that_is_opened_at_its_end_delivers_what_comes(
    harness: Harness, ear: Listener
) -> None:
    harness.log.append(b"first")
    ear.until(lambda heard: len(heard.journal) == 1)
    ear.forget()
    harness.log.rewind()
    harness.log.open_journal(1)
    harness.log.append(b"second")
    ear.until(lambda heard: bool(heard.journal))
    assert ear.a_while().journal == [(1, b"second")]


def test_after_rewind_nothing_comes_before_the_journal_is_opened(
    harness: Harness, ear: Listener
) -> None:
    harness.log.append(b"first")
    ear.until(lambda heard: len(heard.journal) == 1)
    ear.forget()
    harness.log.rewind()
    harness.log.append(b"second")
    assert ear.a_while().journal == []
    harness.log.open_journal(0)
    ear.until(lambda heard: len(heard.journal) == 2)
    assert ear.heard.journal == [(0, b"first"), (1, b"second")]


def test_the_end_can_be_asked_for_before_the_journal_is_opened(
    harness: Harness, ear: Listener
) -> None:
    harness.log.append(b"first")
    ear.until(lambda heard: heard.landed == 1)
    harness.log.rewind()
    assert end_of(harness, ear) == 1


def test_a_journal_that_is_trimmed_before_what_is_wanted_is_told(
    harness: Harness, ear: Listener
) -> None:
    for value in values(10):
        harness.log.append(value)
    ear.until(lambda heard: len(heard.journal) == 10)
    harness.trim(7)
    ear.forget()
    harness.log.rewind()
    harness.log.open_journal(3)
    ear.until(lambda heard: heard.trimmed == 1)
    assert ear.a_while().journal == []
    harness.log.rewind()
    harness.log.open_journal(7)
    ear.until(lambda heard: len(heard.journal) == 3)
    assert ear.heard.journal == rows(10)[7:]


def test_after_rewind_nothing_comes_from_before_it(harness: Harness, ear: Listener) -> None:
    harness.feed("commands", values(5))
    harness.log.append(b"first")
    ear.until(lambda heard: heard.landed == 1)
    ear.forget()
    harness.log.open_sources({})
    harness.log.open_sink(SINK)
    harness.log.append(b"second")
    harness.log.rewind()
    harness.log.open_journal(0)
    ear.until(lambda heard: bool(heard.journal))
    heard = ear.a_while()
    assert heard.journal[0] == (0, b"first")
    assert (heard.landed, heard.failures, heard.sources, heard.tails) == (0, [], {}, [])


def test_after_rewind_appends_are_acknowledged_anew(harness: Harness, ear: Listener) -> None:
    harness.log.append(b"first")
    ear.until(lambda heard: heard.landed == 1)
    harness.log.rewind()
    harness.log.open_journal(0)
    ear.forget()
    harness.log.append(b"second")
    ear.until(lambda heard: heard.landed == 1 and len(heard.journal) == 2)
    assert ear.heard.journal == [(0, b"first"), (1, b"second")]


# --- sources -----------------------------------------------------------------------------------


def source_of(harness: Harness, heard: Heard, source: str) -> list[tuple[int, bytes | None]]:
    return heard.sources.get(harness.topic(source), [])


def test_sources_deliver_nothing_before_they_are_opened(harness: Harness, ear: Listener) -> None:
    harness.feed("commands", values(10))
    harness.log.append(b"x")
    ear.until(lambda heard: len(heard.journal) == 1)
    assert ear.a_while().sources == {}


def test_an_opened_source_delivers_from_its_beginning(harness: Harness, ear: Listener) -> None:
    harness.feed("commands", values(10))
    harness.log.open_sources({})
    ear.until(lambda heard: len(source_of(harness, heard, "commands")) == 10)
    assert source_of(harness, ear.a_while(), "commands") == rows(10)


def test_an_opened_source_delivers_from_exactly_the_offset(harness: Harness, ear: Listener) -> None:
    harness.feed("commands", values(10))
    harness.log.open_sources({harness.topic("commands"): 6})
    ear.until(lambda heard: len(source_of(harness, heard, "commands")) == 4)
    assert source_of(harness, ear.a_while(), "commands") == rows(4, 6)


def test_several_sources_have_offsets_of_their_own(harness: Harness, ear: Listener) -> None:
    harness.feed("commands", values(4))
    harness.feed("feed", values(6))
    harness.log.open_sources({harness.topic("commands"): 4, harness.topic("feed"): 2})
    harness.feed("commands", values(2, 4))
    ear.until(
        lambda heard: (
            len(source_of(harness, heard, "commands")) == 2
            and len(source_of(harness, heard, "feed")) == 4
        )
    )
    assert source_of(harness, ear.heard, "commands") == rows(2, 4)
    assert source_of(harness, ear.heard, "feed") == rows(4, 2)


def test_an_open_source_goes_on_with_what_comes(harness: Harness, ear: Listener) -> None:
    harness.log.open_sources({})
    ear.a_while()
    harness.feed("commands", values(3))
    ear.until(lambda heard: len(source_of(harness, heard, "commands")) == 3)
    harness.feed("commands", values(3, 3))
    ear.until(lambda heard: len(source_of(harness, heard, "commands")) == 6)
    assert source_of(harness, ear.heard, "commands") == rows(6)


def test_a_closed_source_delivers_nothing(harness: Harness, ear: Listener) -> None:
    harness.log.open_sources({})
    harness.feed("commands", values(3))
    ear.until(lambda heard: len(source_of(harness, heard, "commands")) == 3)
    harness.log.close_sources()
    ear.forget()
    harness.feed("commands", values(3, 3))
    assert ear.a_while().sources == {}


@pytest.mark.parametrize("offset", [0, 5, 10])
def test_opened_again_a_source_delivers_from_exactly_there(
    harness: Harness, ear: Listener, offset: int
) -> None:
    harness.feed("commands", values(10))
    harness.log.open_sources({})
    ear.until(lambda heard: len(source_of(harness, heard, "commands")) == 10)
    harness.log.close_sources()
    harness.feed("commands", values(2, 10))
    ear.a_while()
    ear.forget()
    harness.log.open_sources({harness.topic("commands"): offset})
    ear.until(lambda heard: len(source_of(harness, heard, "commands")) >= 12 - offset)
    assert source_of(harness, ear.a_while(), "commands") == rows(12 - offset, offset)


def test_opened_again_at_once_a_source_does_not_mix(harness: Harness, ear: Listener) -> None:
    harness.feed("commands", values(1_000))
    harness.log.open_sources({})
    ear.until(lambda heard: bool(heard.sources))
    ear.forget()
    harness.log.open_sources({harness.topic("commands"): 3})
    ear.until(lambda heard: len(source_of(harness, heard, "commands")) >= 997)
    assert source_of(harness, ear.a_while(), "commands") == rows(997, 3)


def test_hold_and_release_skip_nothing(harness: Harness, ear: Listener) -> None:
    harness.log.open_sources({})
    for first in range(0, 600, 200):
        harness.feed("commands", values(200, first))
        ear.until(lambda heard: bool(heard.sources))
        harness.log.pause_sources()
        before = len(source_of(harness, ear.heard, "commands"))
        ear.a_while()
        late = len(source_of(harness, ear.heard, "commands")) - before
        assert late == 0, f"{late} records came while the sources were held"
        harness.log.resume_sources()
    ear.until(lambda heard: len(source_of(harness, heard, "commands")) >= 600)
    assert source_of(harness, ear.a_while(), "commands") == rows(600)


def test_held_sources_do_not_hold_the_journal(harness: Harness, ear: Listener) -> None:
    harness.log.open_sources({})
    harness.log.pause_sources()
    harness.feed("commands", values(3))
    harness.log.append(b"x")
    ear.until(lambda heard: len(heard.journal) == 1)
    assert ear.heard.sources == {}


def test_opened_anew_a_held_source_is_not_held(harness: Harness, ear: Listener) -> None:
    harness.log.open_sources({})
    harness.log.pause_sources()
    harness.log.close_sources()
    harness.log.open_sources({})
    harness.feed("commands", values(3))
    ear.until(lambda heard: len(source_of(harness, heard, "commands")) == 3)


def test_released_after_it_was_closed_a_source_stays_closed(
    harness: Harness, ear: Listener
) -> None:
    harness.log.open_sources({})
    harness.log.pause_sources()
    harness.log.close_sources()
    harness.log.resume_sources()
    harness.feed("commands", values(3))
    assert ear.a_while().sources == {}


# --- sinks -------------------------------------------------------------------------------------


def opened(harness: Harness, ear: Listener) -> int:
    """Open the sink; returns its tail."""
    ear.forget()
    harness.log.open_sink(SINK)
    ear.until(lambda heard: bool(heard.tails))
    (tail,) = ear.heard.tails
    assert tail[0] == SINK
    return tail[1]


def publish(harness: Harness, ear: Listener, first: int, end: int) -> None:
    """Publish and wait for the acknowledgement."""
    harness.log.publish(SINK, outputs(first, end))
    ear.until(lambda heard: (SINK, end) in heard.published)


def test_the_tail_of_an_empty_sink_is_0(harness: Harness, ear: Listener) -> None:
    assert opened(harness, ear) == 0


def test_the_tail_is_one_after_the_last_record(harness: Harness, ear: Listener) -> None:
    opened(harness, ear)
    publish(harness, ear, 0, 5)
    assert opened(harness, ear) == 5
    other = harness.another()
    assert opened(other, Listener(other)) == 5


def test_the_tail_goes_by_sequence_not_by_offset(harness: Harness, ear: Listener) -> None:
    opened(harness, ear)
    publish(harness, ear, 40, 42)
    assert opened(harness, ear) == 42


def test_the_tail_of_a_sink_that_retention_has_emptied_is_0_however_often_it_is_asked(
    harness: Harness, ear: Listener
) -> None:
    opened(harness, ear)
    publish(harness, ear, 0, 5)
    harness.empty_sink()
    assert [opened(harness, ear) for _ in range(3)] == [0, 0, 0]
    publish(harness, ear, 5, 7)
    assert opened(harness, ear) == 7


def test_published_rises_in_order_up_to_the_last(harness: Harness, ear: Listener) -> None:
    opened(harness, ear)
    for first in range(0, 300, 10):
        harness.log.publish(SINK, outputs(first, first + 10))
    heard = ear.until(lambda heard: (SINK, 300) in heard.published)
    marks = [mark for _, mark in heard.published]
    assert marks == sorted(marks)
    assert harness.sink_seqs() == list(range(300))
    assert heard.failures == []


def test_what_is_published_is_in_the_sink_when_it_is_said(harness: Harness, ear: Listener) -> None:
    opened(harness, ear)
    publish(harness, ear, 0, 3)
    assert harness.sink_seqs() == [0, 1, 2]


def test_after_opening_again_publishing_goes_on(harness: Harness, ear: Listener) -> None:
    opened(harness, ear)
    publish(harness, ear, 0, 3)
    assert opened(harness, ear) == 3
    publish(harness, ear, 3, 6)
    assert harness.sink_seqs() == [0, 1, 2, 3, 4, 5]


def test_what_was_queued_when_the_sink_is_opened_is_not_answered(
    harness: Harness, ear: Listener
) -> None:
    opened(harness, ear)
    publish(harness, ear, 0, 1)
    harness.log.publish(SINK, outputs(1, 50))
    opened(harness, ear)
    heard = ear.a_while()
    assert (heard.published, heard.failures) == ([], [])


def test_what_lands_is_a_prefix_even_when_the_sink_is_opened_again(
    harness: Harness, ear: Listener
) -> None:
    opened(harness, ear)
    publish(harness, ear, 0, 1)
    harness.log.publish(SINK, outputs(1, 50))
    opened(harness, ear)
    ear.a_while()
    seqs = harness.sink_seqs()
    assert seqs == list(range(len(seqs)))


def test_closed_sinks_are_silent(harness: Harness, ear: Listener) -> None:
    opened(harness, ear)
    publish(harness, ear, 0, 1)
    ear.forget()
    harness.log.publish(SINK, outputs(1, 50))
    harness.log.open_sink("balances")
    harness.log.close_sinks()
    heard = ear.a_while()
    assert (heard.published, heard.tails, heard.failures) == ([], [], [])


def test_several_sinks_are_opened_at_once(harness: Harness, ear: Listener) -> None:
    for sink in ("results", "balances", "deadletter"):
        harness.log.open_sink(sink)
    heard = ear.until(lambda heard: len(heard.tails) == 3)
    assert sorted(heard.tails) == [("balances", 0), ("deadletter", 0), ("results", 0)]
