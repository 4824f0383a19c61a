"""How far a standby is behind, told from outside."""

from __future__ import annotations

from array import array

import pytest

from loadtest.bench.snapshot import Answer, behind_ms

STAMPS = array("q", [100, 110, 120])
FIRST_SEQ = 5


@pytest.mark.parametrize(
    ("seq", "answered_ms", "behind"),
    [
        (7, 500.0, 0.0),  # all that has a result
        (5, 130.0, 20.0),
        (4, 130.0, 30.0),
        (-1, 130.0, 30.0),  # results from before the watch are not known
        (5, 109.0, 0.0),  # it answered before the next result was there
    ],
)
def test_an_answer_is_as_old_as_the_first_result_that_it_does_not_account_for(
    seq: int, answered_ms: float, behind: float
) -> None:
    assert behind_ms(Answer(0.0, answered_ms, seq), STAMPS, FIRST_SEQ) == behind
