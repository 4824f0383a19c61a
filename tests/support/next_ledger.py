"""The ledger as its next version might be: accounts can be closed, and an audit trail is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from postjournal.app import Command, Context, Event, Output, Rejected
from postjournal.ledger import AccountName, Accounts, Ledger, LedgerCommand, LedgerEvent


class Close(Command, tag="close", frozen=True, gc=False, kw_only=True):
    account: AccountName


class Closed(Event, tag="closed", frozen=True, gc=False):
    """`balance`: what the ledger's sinks tell of an account that an event has changed."""

    account: str
    balance: int = 0


class Trail(Output, gc=False):
    id: str


class NextLedger(Ledger):
    command_type: ClassVar[Any] = LedgerCommand | Close
    event_type: ClassVar[Any] = LedgerEvent | Closed

    @property
    def name(self) -> str:
        return "Ledger"

    def decide(self, state: Accounts, command: Any, context: Context) -> Sequence[Any] | Rejected:
        if type(command) is Close:
            return (Closed(command.account),)
        return super().decide(state, command, context)

    def evolve(self, state: Accounts, event: Any) -> None:
        if type(event) is Closed:
            state.pop(event.account, None)
        else:
            super().evolve(state, event)

    @property
    def sinks(self) -> Any:
        return {**super().sinks, "trail": lambda outcome, _: [Trail(id=outcome.id)]}
