"""What the benches ask of the ledger, and the book of all that was asked."""

from __future__ import annotations

import random
from typing import Protocol

import msgspec

OPENING_BALANCE = 1_000_000


class Order(msgspec.Struct, frozen=True, gc=False):
    """One command without its id. `to` is empty unless it is a transfer; amounts: minor units."""

    type: str
    account: str
    amount: int = 0
    to: str = ""
    ledger: str = "main"


class Orders(Protocol):
    """All commands of one run, by position: what the audit holds results against."""

    def __len__(self) -> int:
        """How many were sent."""

    def position(self, command_id: str) -> int | None:
        """Where the command stands; None when it is not one of this run."""

    def order(self, position: int) -> Order:
        """What the command asked."""

    def unacknowledged(self, position: int) -> bool:
        """Kafka never confirmed it, so it may have no outcome."""


class Book:
    """The commands of a run in the order of sending. An id is the run's name and a position."""

    def __init__(self, run: str) -> None:
        """`run` must be unique among the runs on one system."""
        self.run = run
        self._prefix = f"{run}-"
        self._orders: list[Order] = []
        self._unacknowledged: set[int] = set()

    def add(self, order: Order) -> tuple[int, bytes]:
        """Enter an order; its position and the record to send."""
        position = len(self._orders)
        self._orders.append(order)
        return position, encode(order, f"{self._prefix}{position}")

    def again(self, position: int) -> bytes:
        """The record of an order that was entered before."""
        return encode(self._orders[position], f"{self._prefix}{position}")

    def fail(self, position: int) -> None:
        """Kafka did not confirm the command."""
        self._unacknowledged.add(position)

    def __len__(self) -> int:
        """How many are entered."""
        return len(self._orders)

    def position(self, command_id: str) -> int | None:
        """See `Orders`."""
        return position_in(self._prefix, command_id, len(self._orders))

    def order(self, position: int) -> Order:
        """See `Orders`."""
        return self._orders[position]

    def unacknowledged(self, position: int) -> bool:
        """See `Orders`."""
        return position in self._unacknowledged

    @property
    def failures(self) -> int:
        """How many Kafka did not confirm."""
        return len(self._unacknowledged)


def position_in(prefix: str, command_id: str, count: int) -> int | None:
    """The position in an id made of `prefix` and a number below `count`; else None."""
    digits = command_id[len(prefix) :]
    if not (command_id.startswith(prefix) and digits.isdecimal()):
        return None
    position = int(digits)
    return position if position < count else None


def encode(order: Order, command_id: str) -> bytes:
    """The command as its source topic has it."""
    command: dict[str, object] = {"type": order.type, "id": command_id}
    if order.type == "transfer":
        command |= {"from": order.account, "to": order.to, "amount": order.amount}
    elif order.type == "open":
        command["account"] = order.account
    else:
        command |= {"account": order.account, "amount": order.amount}
    return msgspec.json.encode(command)


class Mix:
    """A seeded stream of orders of all types over some accounts in some ledgers (keys).

    One in fifty is one that must be rejected: an unknown account, money that is not there, an
    amount of 0, an account that exists, a transfer to itself.
    """

    def __init__(self, run: str, seed: int, accounts: int = 100, ledgers: int = 1) -> None:
        """Accounts are the run's own, so that runs on one system do not meet."""
        self._random = random.Random(seed)
        names = ["main"] if ledgers == 1 else [f"{run}-{ledger}" for ledger in range(ledgers)]
        self._ledgers = [
            (name, [f"{run}-{name}-{account}" for account in range(accounts)]) for name in names
        ]

    def opening(self) -> list[Order]:
        """Opens every account and puts money into it."""
        pairs = [(name, account) for name, accounts in self._ledgers for account in accounts]
        opens = [Order("open", account, ledger=name) for name, account in pairs]
        deposits = [Order("deposit", acct, OPENING_BALANCE, ledger=name) for name, acct in pairs]
        return opens + deposits

    def next(self) -> Order:
        """The next order."""
        rng = self._random
        ledger, accounts = self._ledgers[int(rng.random() * len(self._ledgers))]
        first = int(rng.random() * len(accounts))
        other = accounts[(first + 1 + int(rng.random() * (len(accounts) - 1))) % len(accounts)]
        account, amount, dice = accounts[first], 1 + int(rng.random() * 100), rng.random()
        if dice < 0.02:
            return self._bad(account, ledger)
        if dice < 0.70:
            return Order("transfer", account, amount, other, ledger)
        return Order("deposit" if dice < 0.85 else "withdraw", account, amount, ledger=ledger)

    def _bad(self, account: str, ledger: str) -> Order:
        return self._random.choice(
            (
                Order("open", account, ledger=ledger),
                Order("deposit", account, 0, ledger=ledger),
                Order("withdraw", account, 2**50, ledger=ledger),
                Order("transfer", account, 1, account, ledger),
                Order("transfer", account, 1, f"{account}-nobody", ledger),
            )
        )
