"""The sample application: a ledger of accounts in which money is conserved.

Events carry the resulting balances, so that outputs do not need the state, and a repeated command
is answered with the balances of the first time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Annotated, Any, ClassVar

import msgspec

from postjournal.app import Application, Command, Context, Event, Outcome, Output, Rejected

MAX_AMOUNT = 2**53 - 1
"""In minor units: the largest integer that every JSON reader keeps exact (RFC 8259, section 6)."""

Amount = Annotated[int, msgspec.Meta(ge=1, le=MAX_AMOUNT)]
AccountName = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class Open(Command, tag="open", frozen=True, gc=False, kw_only=True):
    """Open an account with balance 0."""

    account: AccountName


class Deposit(Command, tag="deposit", frozen=True, gc=False, kw_only=True):
    """Add money to an account from outside the ledger."""

    account: AccountName
    amount: Amount


class Withdraw(Command, tag="withdraw", frozen=True, gc=False, kw_only=True):
    """Remove money from an account and from the ledger."""

    account: AccountName
    amount: Amount


class Transfer(Command, tag="transfer", frozen=True, gc=False, kw_only=True):
    """Move money between two accounts."""

    source: AccountName = msgspec.field(name="from")
    to: AccountName
    amount: Amount


class Opened(Event, tag="opened", frozen=True, gc=False):
    """An account was opened, with balance 0."""

    account: str


class Deposited(Event, tag="deposited", frozen=True, gc=False):
    """Money was deposited; `balance`: the account's afterwards."""

    account: str
    amount: int
    balance: int


class Withdrawn(Event, tag="withdrawn", frozen=True, gc=False):
    """Money was withdrawn; `balance`: the account's afterwards."""

    account: str
    amount: int
    balance: int


class Transferred(Event, tag="transferred", frozen=True, gc=False):
    """Money was transferred; the balances are those afterwards."""

    source: str = msgspec.field(name="from")
    to: str
    amount: int
    from_balance: int
    to_balance: int


class Result(Output, gc=False):
    """The result of one command, in the order of decision. `balances`: account → balance after."""

    id: str
    type: str | None
    status: str
    reason: str | None
    balances: dict[str, int]
    shard: int
    time: int
    replayed: bool


class Balance(Output, gc=False):
    """The new balance of a changed account; `id` is the command's."""

    account: str
    balance: int
    id: str


ACCOUNTS_PER_PIECE = 5_000
"""In a piece of a snapshot, which is then about 100 kB."""

LedgerCommand = Open | Deposit | Withdraw | Transfer
LedgerEvent = Opened | Deposited | Withdrawn | Transferred
Accounts = dict[str, int]

_decode_accounts = msgspec.json.Decoder(Accounts).decode

UNKNOWN_ACCOUNT = Rejected("unknown_account")
ACCOUNT_EXISTS = Rejected("account_exists")
INSUFFICIENT_FUNDS = Rejected("insufficient_funds")
SAME_ACCOUNT = Rejected("same_account")
INVALID = Rejected("invalid")


def balances_after(event: LedgerEvent) -> Accounts:
    """Return account → balance for each account that `event` changed."""
    kind = type(event)
    if kind is Transferred:
        return {event.source: event.from_balance, event.to: event.to_balance}  # type: ignore[union-attr]
    if kind is Opened:
        return {event.account: 0}  # type: ignore[union-attr]
    return {event.account: event.balance}  # type: ignore[union-attr]


class Ledger(Application[Accounts, LedgerCommand, LedgerEvent]):
    """State: account → balance in minor units, one dict per shard."""

    command_type: ClassVar[Any] = LedgerCommand
    event_type: ClassVar[Any] = LedgerEvent
    sources = ("commands", "feed")
    output_types: ClassVar[Mapping[str, Any]] = {"results": Result, "balances": Balance}

    def initial_state(self) -> Accounts:
        return {}

    def decide(
        self, state: Accounts, command: LedgerCommand, context: Context
    ) -> Sequence[LedgerEvent] | Rejected:
        """Return exactly one event, or a rejection."""
        del context  # no rule of the ledger depends on time
        return _RULES[type(command)](state, command)

    def evolve(self, state: Accounts, event: LedgerEvent) -> None:
        """Set the balances that the event carries."""
        if type(event) is Transferred:
            state[event.source] = event.from_balance
            state[event.to] = event.to_balance
        elif type(event) is Opened:
            state[event.account] = 0
        else:
            state[event.account] = event.balance  # type: ignore[union-attr]

    @property
    def sinks(
        self,
    ) -> Mapping[str, Callable[[Outcome[LedgerEvent], Context], Iterable[Output]]]:
        """`results`: one per command; `balances`: one per changed account."""
        return {"results": _results, "balances": _balances}

    def query(self, state: Accounts, query: Mapping[str, str]) -> object | None:
        """Return the balance of `account`, or None for an unknown one."""
        account = query.get("account", "")
        if account not in state:
            return None
        return {"account": account, "balance": state[account]}

    def dump(self, state: Accounts) -> Iterable[bytes]:
        """Return JSON objects of some thousand accounts each, in the order of opening."""
        accounts = iter(state.items())
        while piece := dict(islice(accounts, ACCOUNTS_PER_PIECE)):
            yield msgspec.json.encode(piece)

    def load(self, schema_version: int, pieces: Iterable[bytes]) -> Accounts:
        """Merge the pieces; there has been one schema so far."""
        assert schema_version == 1
        accounts: Accounts = {}
        for piece in pieces:
            accounts.update(_decode_accounts(piece))
        return accounts


def _open(state: Accounts, command: Open) -> Sequence[LedgerEvent] | Rejected:
    if command.account in state:
        return ACCOUNT_EXISTS
    return (Opened(command.account),)


def _transfer(state: Accounts, command: Transfer) -> Sequence[LedgerEvent] | Rejected:
    source, to, amount = command.source, command.to, command.amount
    if source == to:
        return SAME_ACCOUNT
    from_balance, to_balance = state.get(source), state.get(to)
    if from_balance is None or to_balance is None:
        return UNKNOWN_ACCOUNT
    if from_balance < amount:
        return INSUFFICIENT_FUNDS
    if to_balance + amount > MAX_AMOUNT:
        return INVALID
    return (Transferred(source, to, amount, from_balance - amount, to_balance + amount),)


def _deposit(state: Accounts, command: Deposit) -> Sequence[LedgerEvent] | Rejected:
    have = state.get(command.account)
    if have is None:
        return UNKNOWN_ACCOUNT
    balance = have + command.amount
    if balance > MAX_AMOUNT:
        return INVALID
    return (Deposited(command.account, command.amount, balance),)


def _withdraw(state: Accounts, command: Withdraw) -> Sequence[LedgerEvent] | Rejected:
    have = state.get(command.account)
    if have is None:
        return UNKNOWN_ACCOUNT
    if have < command.amount:
        return INSUFFICIENT_FUNDS
    balance = have - command.amount
    return (Withdrawn(command.account, command.amount, balance),)


_RULES: dict[type, Callable[[Accounts, Any], Sequence[LedgerEvent] | Rejected]] = {
    Open: _open,
    Deposit: _deposit,
    Withdraw: _withdraw,
    Transfer: _transfer,
}


def _results(outcome: Outcome[LedgerEvent], context: Context) -> tuple[Output, ...]:
    events = outcome.events
    return (
        Result(
            outcome.id,
            outcome.type,
            "rejected" if events is None else "accepted",
            outcome.rejected,
            balances_after(events[0]) if events else {},
            context.shard,
            context.time,
            outcome.replayed,
        ),
    )


def _balances(outcome: Outcome[LedgerEvent], context: Context) -> tuple[Output, ...]:
    del context
    if not outcome.events or outcome.replayed:  # a repeat changes nothing
        return ()
    event, command_id = outcome.events[0], outcome.id
    if type(event) is Transferred:
        return (
            Balance(event.source, event.from_balance, command_id),
            Balance(event.to, event.to_balance, command_id),
        )
    return tuple(
        Balance(account, balance, command_id) for account, balance in balances_after(event).items()
    )
