"""The ledger of the simulation: the sample ledger plus commands that it does not need.

`sweep` has any number of events, including none; `decide` raises at `boom`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from postjournal.app import Command, Context, Outcome, Output, Rejected
from postjournal.ledger import (
    INVALID,
    MAX_AMOUNT,
    UNKNOWN_ACCOUNT,
    AccountName,
    Accounts,
    Balance,
    Ledger,
    LedgerCommand,
    LedgerEvent,
    Opened,
    Result,
    Transferred,
    balances_after,
)


class Sweep(Command, tag="sweep", frozen=True, gc=False, kw_only=True):
    """Moves the balances of all other accounts to one."""

    to: AccountName


class Boom(Command, tag="boom", frozen=True, gc=False, kw_only=True):
    """Raises an exception when it is decided."""


@dataclass(frozen=True)
class Release:
    """What differs between releases of the application.

    `has_balances`: the sink; `dies_at`: the account whose opening ends its process.
    """

    has_balances: bool = True
    dies_at: str | None = None


LATEST = Release()


class SimLedger(Ledger):
    """The sample ledger with `sweep` and `boom`.

    `die()`: ends the process, by an exception that no code catches.
    """

    def __init__(self, release: Release = LATEST, die: Callable[[], None] | None = None) -> None:
        self.release, self._die = release, die

    command_type: ClassVar[Any] = LedgerCommand | Sweep | Boom

    def decide(
        self, state: Accounts, command: Any, context: Context
    ) -> Sequence[LedgerEvent] | Rejected:
        if type(command) is Boom:
            raise ValueError("boom")
        if type(command) is Sweep:
            return _sweep(state, command.to)
        return super().decide(state, command, context)

    def evolve(self, state: Accounts, event: LedgerEvent) -> None:
        if type(event) is Opened and event.account == self.release.dies_at:
            assert self._die is not None
            self._die()
        super().evolve(state, event)

    @property
    def sinks(
        self,
    ) -> Mapping[str, Callable[[Outcome[LedgerEvent], Context], Iterable[Output]]]:
        """As the ledger's, for any number of events per command."""
        if not self.release.has_balances:
            return {"results": _results}
        return {"results": _results, "balances": _balances}


def _sweep(state: Accounts, to: str) -> Sequence[LedgerEvent] | Rejected:
    if to not in state:
        return UNKNOWN_ACCOUNT
    events, balance = list[LedgerEvent](), state[to]
    for account, amount in sorted(state.items()):
        if account != to and amount:
            balance += amount
            events.append(Transferred(account, to, amount, 0, balance))
    return INVALID if balance > MAX_AMOUNT else events


def _results(outcome: Outcome[LedgerEvent], context: Context) -> Iterable[Output]:
    balances: Accounts = {}
    for event in outcome.events or ():
        balances |= balances_after(event)
    status = "rejected" if outcome.events is None else "accepted"
    yield Result(
        outcome.id,
        outcome.type,
        status,
        outcome.rejected,
        balances,
        context.shard,
        context.time,
        outcome.replayed,
    )


def _balances(outcome: Outcome[LedgerEvent], context: Context) -> Iterable[Output]:
    del context
    for event in () if outcome.replayed else outcome.events or ():
        for account, balance in balances_after(event).items():
            yield Balance(account, balance, outcome.id)
