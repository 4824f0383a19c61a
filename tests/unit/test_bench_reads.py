"""How the standbys' answers are compared with the results."""

from __future__ import annotations

import msgspec
import pytest

from loadtest.bench.reads import judge
from loadtest.workload.query_connection import BalanceAnswer
from loadtest.workload.standby_reads import BalanceHistory, ResultsObserver, StandbyReader


class FinishedReader(StandbyReader):
    """A reader that has all its answers."""

    def __init__(self, *answers: BalanceAnswer) -> None:
        super().__init__("127.0.0.1:1", ResultsObserver.__new__(ResultsObserver), 0)
        self.answers = list(answers)


def history(*results: tuple[int, dict[str, int]]) -> BalanceHistory:
    made = BalanceHistory()
    for seq, balances in results:
        made.add(msgspec.json.encode({"seq": seq, "balances": balances}))
    return made


HISTORY = history((4, {"a": 10}), (5, {"b": 1}), (5, {"b": 1}), (6, {}), (7, {"a": 7, "b": 4}))


def answer(min_seq: int, seq: int, balance: int | None, error: str | None = None) -> BalanceAnswer:
    return BalanceAnswer(0, 1_000_000, "a", min_seq, seq, balance, error)


def test_answers_that_agree_with_the_results_are_not_failures() -> None:
    reader = FinishedReader(answer(4, 4, 10), answer(5, 6, 10), answer(6, 7, 7), answer(7, 99, 7))
    reads = judge(["h:1"], [reader], HISTORY, 2.0)
    assert (reads.tries, reads.per_second, reads.failures()) == (4, 2.0, [])


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (answer(7, 6, 10), "older than min_seq"),
        (answer(4, 6, 7), "another balance"),
        (answer(7, 7, None), "another balance"),
        (answer(0, 3, 10), "another balance"),
        (answer(7, 5, None, "behind"), "refused"),
    ],
)
def test_a_wrong_answer_is_a_failure(bad: BalanceAnswer, named: str) -> None:
    reader = FinishedReader(answer(4, 4, 10), bad)
    (failure,) = judge(["h:1"], [reader], HISTORY, 1.0).failures()
    assert named in failure


def test_a_connection_that_was_reset_is_a_failure() -> None:
    reader = FinishedReader(answer(4, 4, 10))
    reader.failure = "ConnectionResetError"
    assert judge(["h:1"], [reader], HISTORY, 1.0).failures() == [
        "a connection failed: ConnectionResetError"
    ]
