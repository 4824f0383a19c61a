"""The sample application that reserves seats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from postjournal.core.sharding import ShardPlace
from postjournal.core.state.state_machine import StateMachine
from postjournal.samples import seats
from postjournal.samples.seats import MINUTE_MS, Seats


class Show:
    """The seats of one show, with a clock."""

    def __init__(self) -> None:
        self.machine: StateMachine[Any, Any, Any] = StateMachine(Seats(), ShardPlace(0, 1), 100)
        self.now = 0
        self._sent = 0

    def submit(self, **command: object) -> str:
        """Decide a command; returns `accepted` or the reason of the rejection."""
        self._sent += 1
        value = msgspec.json.encode({"id": f"c{self._sent}"} | command)
        row = (self._sent, None, value)
        (outcome,) = self.machine.decide([("seats.commands", [row])], self.now)
        return outcome.rejected or "accepted"


@pytest.fixture
def show() -> Show:
    return Show()


def test_a_seat_belongs_to_its_first_holder(show: Show) -> None:
    assert show.submit(type="hold", seat="A1", who="ann") == "accepted"
    assert show.submit(type="hold", seat="A1", who="bob") == "held"
    assert show.submit(type="buy", seat="A1", who="bob") == "held"
    assert show.submit(type="buy", seat="A1", who="ann") == "accepted"
    assert show.submit(type="buy", seat="A1", who="ann") == "sold"


def test_a_hold_expires_by_the_journals_time(show: Show) -> None:
    show.submit(type="hold", seat="A1", who="ann", minutes=2)
    show.now = 2 * MINUTE_MS - 1
    assert show.submit(type="buy", seat="A1", who="bob") == "held"
    show.now = 2 * MINUTE_MS
    assert show.submit(type="buy", seat="A1", who="bob") == "accepted"


def test_a_hold_can_be_renewed_by_its_owner(show: Show) -> None:
    show.submit(type="hold", seat="A1", who="ann", minutes=1)
    assert show.submit(type="hold", seat="A1", who="ann", minutes=5) == "accepted"
    assert show.machine.query({"seat": "A1"})[0] == msgspec.Raw(b'["ann",300000]')
    assert show.machine.query({"seat": "A2"})[0] is None


def test_every_command_has_one_result(show: Show) -> None:
    show.submit(type="hold", seat="A1", who="ann")
    show.submit(type="hold", seat="A1", who="bob", minutes=61)
    (first, second) = show.machine.outboxes["results"].between(0, 9)
    results = [msgspec.json.decode(value) for run in (first, second) for value in run.values]
    assert [(result["seq"], result["status"]) for result in results] == [
        (0, "accepted"),
        (1, "rejected"),
    ]


def test_the_state_survives_a_snapshot(show: Show) -> None:
    show.submit(type="hold", seat="A1", who="ann")
    application, state = Seats(), show.machine.state
    assert application.load(1, application.dump(state)) == state


def test_it_is_under_a_hundred_lines() -> None:
    assert len(Path(seats.__file__).read_text().splitlines()) < 100
