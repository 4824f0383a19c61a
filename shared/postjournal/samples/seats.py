"""Seat reservations: a seat is held for some minutes, and then bought or free again.

Whether a hold has expired is decided when the seat is requested, by the journal's time.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import msgspec

from postjournal.app import Application, Command, Context, Event, Outcome, Output, Rejected

MINUTE_MS = 60_000
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class Hold(Command, tag="hold", frozen=True, kw_only=True):
    """Reserve a seat for `who` for some minutes, in which to pay."""

    seat: Name
    who: Name
    minutes: Annotated[int, msgspec.Meta(ge=1, le=60)] = 10


class Buy(Command, tag="buy", frozen=True, kw_only=True):
    """Buy a seat, held or free."""

    seat: Name
    who: Name


class Held(Event, tag="held", frozen=True):
    """A seat was reserved; `until`: journal time, ms since the Unix epoch."""

    seat: str
    who: str
    until: int


class Bought(Event, tag="bought", frozen=True):
    """A seat was sold."""

    seat: str
    who: str


class Ticket(Output):
    """The result of one command."""

    id: str
    status: str
    reason: str | None
    replayed: bool


def _ticket(outcome: Outcome[Any]) -> Ticket:
    status = "rejected" if outcome.events is None else "accepted"
    return Ticket(outcome.id, status, outcome.rejected, outcome.replayed)


State = dict[str, tuple[str, int | None]]
"""Seat → its holder, and until when; None: sold."""


class Seats(Application[State, Hold | Buy, Held | Bought]):
    """The seats of the shows of one shard; a command's key selects the shard."""

    command_type: ClassVar[Any] = Hold | Buy
    event_type: ClassVar[Any] = Held | Bought
    state_type: ClassVar[Any] = State
    output_types: ClassVar[Mapping[str, Any]] = {"results": Ticket}

    def initial_state(self) -> State:
        return {}

    def decide(
        self, state: State, command: Hold | Buy, context: Context
    ) -> Sequence[Held | Bought] | Rejected:
        """The first holder keeps a seat until the hold expires."""
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
        """`results`: one per command, which the gateway returns for `Prefer: wait`."""
        return {"results": lambda outcome, _: [_ticket(outcome)]}

    def query(self, state: State, query: Mapping[str, str]) -> object | None:
        """Return the holder of the seat, and until when."""
        return state.get(query.get("seat", ""))
