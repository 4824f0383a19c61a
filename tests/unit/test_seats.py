"""The second sample: seat reservations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from postjournal.core.sharding import ShardPlace
from postjournal.core.state.state_machine import StateMachine
from postjournal.samples import seats
from postjournal.samples.seats import MINUTE_MS, Seats


class House:
    """One show, and a clock."""

    def __init__(self) -> None:
        self.machine: StateMachine[Any, Any, Any] = StateMachine(Seats(), ShardPlace(0, 1), 100)
        self.now = 0
        self._sent = 0

    def ask(self, **command: object) -> str:
        """What becomes of it: accepted, or why not."""
        self._sent += 1
        value = msgspec.json.encode({"id": f"c{self._sent}"} | command)
        row = (self._sent, None, value)
        (outcome,) = self.machine.decide([("seats.commands", [row])], self.now)
        return outcome.rejected or "accepted"


@pytest.fixture
def house() -> House:
    return House()


def test_a_seat_belongs_to_whoever_came_first(house: House) -> None:
    assert house.ask(type="hold", seat="A1", who="ann") == "accepted"
    assert house.ask(type="hold", seat="A1", who="bob") == "held"
    assert house.ask(type="buy", seat="A1", who="bob") == "held"
    assert house.ask(type="buy", seat="A1", who="ann") == "accepted"
    assert house.ask(type="buy", seat="A1", who="ann") == "sold"


def test_a_hold_runs_out_by_the_journals_time(house: House) -> None:
    house.ask(type="hold", seat="A1", who="ann", minutes=2)
    house.now = 2 * MINUTE_MS - 1
    assert house.ask(type="buy", seat="A1", who="bob") == "held"
    house.now = 2 * MINUTE_MS
    assert house.ask(type="buy", seat="A1", who="bob") == "accepted"


def test_a_hold_can_be_renewed_by_who_has_it(house: House) -> None:
    house.ask(type="hold", seat="A1", who="ann", minutes=1)
    assert house.ask(type="hold", seat="A1", who="ann", minutes=5) == "accepted"
    assert house.machine.query({"seat": "A1"})[0] == msgspec.Raw(b'["ann",300000]')
    assert house.machine.query({"seat": "A2"})[0] is None


def test_every_command_gets_one_ticket(house: House) -> None:
    house.ask(type="hold", seat="A1", who="ann")
    house.ask(type="hold", seat="A1", who="bob", minutes=61)
    (first, second) = house.machine.outboxes["results"].between(0, 9)
    told = [msgspec.json.decode(value) for each in (first, second) for value in each.values]
    assert [(each["seq"], each["status"]) for each in told] == [(0, "accepted"), (1, "rejected")]


def test_the_state_survives_a_snapshot(house: House) -> None:
    house.ask(type="hold", seat="A1", who="ann")
    application, state = Seats(), house.machine.state
    assert application.load(1, application.dump(state)) == state


def test_it_is_under_a_hundred_lines() -> None:
    assert len(Path(seats.__file__).read_text().splitlines()) < 100
