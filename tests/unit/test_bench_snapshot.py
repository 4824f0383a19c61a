"""How far a standby is behind, as measured from outside."""

from __future__ import annotations

from array import array

import pytest

from loadtest.bench.snapshot import behind_ms

STAMPS = array("q", [100, 110, 120])
FIRST_SEQ = 5


@pytest.mark.parametrize(
    ("seq", "answered_ms", "behind"),
    [
        (7, 500.0, 0.0),  # it accounts for all results
        (5, 130.0, 20.0),
        (4, 130.0, 30.0),
        (-1, 130.0, 30.0),  # results from before the first one that was seen are unknown
        (5, 109.0, 0.0),  # it answered before the next result was published
    ],
)
def test_an_answer_is_as_old_as_the_first_result_that_it_does_not_account_for(
    seq: int, answered_ms: float, behind: float
) -> None:
    assert behind_ms(seq, answered_ms, STAMPS, FIRST_SEQ) == behind
