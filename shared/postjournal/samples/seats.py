"""Seat reservations: a seat is held for some minutes, and then bought or free again.

Whether a hold has run out is decided when somebody asks for the seat, by the journal's time.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import msgspec

from postjournal.app import Application, Command, Context, Event, Outcome, Output, Rejected

MINUTE_MS = 60_000
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class Hold(Command, tag="hold", frozen=True, kw_only=True):
    """Keep a seat for `who`, so that there is time to pay."""

    seat: Name
    who: Name
    minutes: Annotated[int, msgspec.Meta(ge=1, le=60)] = 10


class Buy(Command, tag="buy", frozen=True, kw_only=True):
    """Take a seat for good."""

    seat: Name
    who: Name


class Held(Event, tag="held", frozen=True):
    """`until`: journal time, ms."""

    seat: str
    who: str
    until: int


class Bought(Event, tag="bought", frozen=True):
    """The seat is gone."""

    seat: str
    who: str


class Ticket(Output):
    """What became of one command."""

    id: str
    status: str
    reason: str | None
    replayed: bool


def _ticket(outcome: Outcome[Any]) -> Ticket:
    status = "rejected" if outcome.events is None else "accepted"
    return Ticket(outcome.id, status, outcome.rejected, outcome.replayed)


State = dict[str, tuple[str, int | None]]
"""Seat → who has it, and until when: None for ever."""


class Seats(Application[State, Hold | Buy, Held | Bought]):
    """One show; its key picks the shard."""

    command_type: ClassVar[Any] = Hold | Buy
    event_type: ClassVar[Any] = Held | Bought
    state_type: ClassVar[Any] = State
    output_types: ClassVar[Mapping[str, Any]] = {"results": Ticket}

    def initial_state(self) -> State:
        """Every seat is free."""
        return {}

    def decide(
        self, state: State, command: Hold | Buy, context: Context
    ) -> Sequence[Held | Bought] | Rejected:
        """A seat belongs to whoever came first, until his time is over."""
        who, until = state.get(command.seat, ("", 0))
        is_taken = until is None or until > context.time
        if is_taken and (who != command.who or until is None):
            return Rejected("sold" if until is None else "held")
        if isinstance(command, Buy):
            return [Bought(command.seat, command.who)]
        return [Held(command.seat, command.who, context.time + command.minutes * MINUTE_MS)]

    def evolve(self, state: State, event: Held | Bought) -> None:
        state[event.seat] = (event.who, event.until if isinstance(event, Held) else None)

    @property
    def sinks(self) -> Mapping[str, Callable[[Outcome[Any], Context], Iterable[Output]]]:
        """`results`: one per command, which is what `Prefer: wait` waits for."""
        return {"results": lambda outcome, _: [_ticket(outcome)]}

    def query(self, state: State, query: Mapping[str, str]) -> object | None:
        """Who has the seat, and until when."""
        return state.get(query.get("seat", ""))
