"""An accepted entry at which the process died before."""

from __future__ import annotations

from typing import Any

import pytest

from postjournal.core.errors import ApplicationFaulty
from postjournal.core.records import Entry
from postjournal.core.state.apply_guard import NONE, ApplyGuard
from postjournal.core.state.state_machine import StateMachine
from postjournal.ledger import Ledger
from tests.support.snapshots import CODEC, PLACE, WINDOW, busy_journal


class Watched(Ledger):
    """Notes the mark at each event; fails at the first one if it is to."""

    def __init__(self, mark: list[int], *, fails: bool = False) -> None:
        self.mark, self.fails = mark, fails
        self.seen: list[int] = []

    def evolve(self, state: Any, event: Any) -> None:
        self.seen.append(self.mark[0])
        if self.fails:
            raise ZeroDivisionError
        super().evolve(state, event)


def an_entry() -> Entry[Any]:
    entry = CODEC.decode(busy_journal().values[1])
    assert type(entry) is Entry
    return entry


def machine_of(application: Watched) -> StateMachine[Any, Any, Any]:
    return StateMachine(application, PLACE, WINDOW)


def test_an_entry_is_marked_while_it_is_applied() -> None:
    mark = [NONE]
    application = Watched(mark)
    ApplyGuard(mark).apply(machine_of(application), 17, an_entry())
    assert application.seen == [17]
    assert mark == [NONE]


def test_a_failure_that_is_explained_leaves_no_mark() -> None:
    mark = [NONE]
    with pytest.raises(ApplicationFaulty, match="ZeroDivisionError"):
        ApplyGuard(mark).apply(machine_of(Watched(mark, fails=True)), 17, an_entry())
    assert mark == [NONE]


def test_the_fatal_entry_is_not_applied_and_others_are() -> None:
    mark = [NONE]
    application = Watched(mark)
    guard = ApplyGuard(mark, fatal_offset=17)
    guard.apply(machine_of(application), 16, an_entry())
    with pytest.raises(ApplicationFaulty, match=r"entry at offset 17 \(seq 0 to 0\)"):
        guard.apply(machine_of(application), 17, an_entry())
    assert application.seen == [16]
