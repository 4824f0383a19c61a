"""The window of the commands that were decided last."""

import random

import pytest

from postjournal.core.records import Outcome
from postjournal.core.state.dedupe import DedupeWindow

Window = DedupeWindow[str]


def remembered(window: Window, ids: range) -> list[str]:
    return [str(n) for n in ids if window.get(str(n)) is not None]


def outcomes(*ids: int) -> list[Outcome[str]]:
    return [Outcome(str(n)) for n in ids]


def test_the_oldest_is_forgotten_first() -> None:
    window: Window = DedupeWindow(2)
    for outcome in outcomes(1, 2, 3):
        window.add(outcome)
    assert remembered(window, range(5)) == ["2", "3"]


@pytest.mark.parametrize("seed", range(50))
def test_adding_many_at_once_is_equal_to_adding_one_after_the_other(seed: int) -> None:
    rng = random.Random(seed)
    one: Window = DedupeWindow(rng.randint(1, 6))
    many: Window = DedupeWindow(one.size)
    for _ in range(10):
        added = []
        for outcome in outcomes(*rng.choices(range(12), k=rng.randint(0, 10))):
            if one.get(outcome.id) is None:  # otherwise it is a repeat
                one.add(outcome)
                added.append(outcome)
        many.add_all(added)
        assert len(one) == len(many)
        for n in range(12):
            assert one.get(str(n)) is many.get(str(n))
