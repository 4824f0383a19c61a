"""How answers of standbys are held against the results."""

from __future__ import annotations

import msgspec
import pytest

from loadtest.bench.reads import faults, judge
from loadtest.workload.reading import Answer, Asker, History, Witness


class Told(Asker):
    """An asker that has its answers already."""

    def __init__(self, *answers: Answer) -> None:
        super().__init__("127.0.0.1:1", Witness.__new__(Witness), 0)
        self.answers = list(answers)


def history(*results: tuple[int, dict[str, int]]) -> History:
    made = History()
    for seq, balances in results:
        made.take(msgspec.json.encode({"seq": seq, "balances": balances}))
    return made


HISTORY = history((4, {"a": 10}), (5, {"b": 1}), (5, {"b": 1}), (6, {}), (7, {"a": 7, "b": 4}))


def answer(min_seq: int, seq: int, balance: int | None, error: str | None = None) -> Answer:
    return Answer(1_000_000, "a", min_seq, seq, balance, error)


def test_answers_that_the_results_bear_out_are_no_fault() -> None:
    told = Told(answer(4, 4, 10), answer(5, 6, 10), answer(6, 7, 7), answer(7, 99, 7))
    reads = judge(["h:1"], [told], HISTORY, 2.0)
    assert (reads.tries, reads.per_second, faults(reads)) == (4, 2.0, [])


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
def test_an_answer_that_is_not_as_it_had_to_be_is_named(bad: Answer, named: str) -> None:
    (fault,) = faults(judge(["h:1"], [Told(answer(4, 4, 10), bad)], HISTORY, 1.0))
    assert named in fault


def test_a_connection_that_broke_is_a_fault() -> None:
    told = Told(answer(4, 4, 10))
    told.fault = "ConnectionResetError"
    assert faults(judge(["h:1"], [told], HISTORY, 1.0)) == [
        "a connection failed: ConnectionResetError"
    ]
