"""Which outputs are published, and from which seq."""

import pytest

from postjournal.core.state.outbox import Outbox, Outputs, Publication


def outputs(first: int, end: int) -> Outputs:
    return Outputs(first, [b"%d" % seq for seq in range(first, end)])


def outbox(*chunks: int) -> Outbox:
    box = Outbox("numbers")
    for size in chunks:
        box.add(outputs(box.next_seq, box.next_seq + size))
    return box


def seqs(chunks: list[Outputs]) -> list[int]:
    """The sequences of the chunks, which must be equal to the values."""
    found = [seq for chunk in chunks for seq in range(chunk.first, chunk.end)]
    assert found == [int(value) for chunk in chunks for value in chunk.values]
    return found


@pytest.mark.parametrize(("start", "end"), [(0, 9), (2, 7), (3, 3), (8, 20), (0, 1), (5, 6)])
def test_any_range_is_found_whole_and_in_order(start: int, end: int) -> None:
    assert seqs(outbox(3, 1, 5).between(start, end)) == list(range(start, min(end, 9)))


def test_only_chunks_that_are_wholly_published_are_forgotten() -> None:
    box = outbox(3, 3)
    box.forget(4)
    assert seqs(box.between(0, 9)) == [3, 4, 5]
    assert len(box) == 3


def test_publishing_starts_after_the_topics_last_record_or_at_the_mark() -> None:
    box = outbox(5, 5)
    assert seqs(Publication(box, 2).opened(tail=4)) == [4]
    assert seqs(Publication(box, 6).opened(tail=4)) == [6]


def test_the_first_output_is_alone_in_flight_until_it_is_acknowledged() -> None:
    box = outbox(3)
    publication = Publication(box, 0)
    assert seqs(publication.opened(0)) == [0]
    box.add(outputs(3, 4))
    assert publication.advance(4) == []
    assert seqs(publication.on_acknowledged(1)) == [1, 2, 3]
    box.add(outputs(4, 5))
    assert seqs(publication.advance(5)) == [4]


def test_nothing_is_published_before_the_tail_is_known() -> None:
    publication = Publication(outbox(3), 0)
    assert publication.advance(3) == []
    assert publication.on_acknowledged(2) == []
    assert not publication.complete


def test_only_stable_outputs_are_published() -> None:
    box = outbox(2)
    publication = Publication(box, 0)
    box.add(outputs(2, 4))  # decided, not read back
    assert seqs(publication.opened(0)) == [0]
    assert seqs(publication.on_acknowledged(1)) == [1]
    assert seqs(publication.advance(4)) == [2, 3]


def test_after_a_failure_publishing_continues_at_the_new_tail() -> None:
    publication = Publication(outbox(6), 0)
    publication.opened(0)
    publication.on_acknowledged(1)
    publication.reopen()
    assert seqs(publication.opened(4)) == [4]
