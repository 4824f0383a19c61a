"""The ledger commands that a load sends, and the record of those that were sent."""

from __future__ import annotations

import random
from typing import Protocol

import msgspec

OPENING_BALANCE = 1_000_000


class CommandSpec(msgspec.Struct, frozen=True, gc=False):
    """One command without its id. `to` is empty unless it is a transfer; amounts: minor units."""

    type: str
    account: str
    amount: int = 0
    to: str = ""
    ledger: str = "main"


class CommandIndex(Protocol):
    """All commands of one run by their positions; the audit compares the results with it."""

    def __len__(self) -> int:
        """How many commands were sent."""

    def position(self, command_id: str) -> int | None:
        """The position of the command with this id; None if it is not one of this run."""

    def spec(self, position: int) -> CommandSpec:
        """The command at this position."""

    def is_unacknowledged(self, position: int) -> bool:
        """Whether Kafka never acknowledged the command, so that it may have no outcome."""


class SentCommands:
    """The commands of a run in the order of sending. An id is the run's name and a position."""

    def __init__(self, run: str) -> None:
        """`run` must be unique among the runs on one system."""
        self._prefix = f"{run}-"
        self._specs: list[CommandSpec] = []
        self._unacknowledged: set[int] = set()

    def add(self, spec: CommandSpec) -> tuple[int, bytes]:
        """Record a command; return its position and the record to send."""
        self._specs.append(spec)
        position = len(self._specs) - 1
        return position, self.encoded(position)

    def encoded(self, position: int) -> bytes:
        """The record of a command that was added before."""
        return encode(self._specs[position], f"{self._prefix}{position}")

    def mark_unacknowledged(self, position: int) -> None:
        self._unacknowledged.add(position)

    def __len__(self) -> int:
        return len(self._specs)

    def position(self, command_id: str) -> int | None:
        return position_in(self._prefix, command_id, len(self._specs))

    def spec(self, position: int) -> CommandSpec:
        return self._specs[position]

    def is_unacknowledged(self, position: int) -> bool:
        return position in self._unacknowledged


def position_in(prefix: str, command_id: str, count: int) -> int | None:
    """The position in an id made of `prefix` and a number below `count`; else None."""
    digits = command_id[len(prefix) :]
    if not (command_id.startswith(prefix) and digits.isdecimal()):
        return None
    position = int(digits)
    return position if position < count else None


def encode(spec: CommandSpec, command_id: str) -> bytes:
    """The record of a command in its source topic."""
    command: dict[str, object] = {"type": spec.type, "id": command_id}
    if spec.type == "transfer":
        command |= {"from": spec.account, "to": spec.to, "amount": spec.amount}
    elif spec.type == "open":
        command["account"] = spec.account
    else:
        command |= {"account": spec.account, "amount": spec.amount}
    return msgspec.json.encode(command)


class Workload:
    """A seeded stream of commands of all types over some accounts in some ledgers (keys).

    One in fifty must be rejected: an unknown account, insufficient funds, an amount of 0, an
    account that exists, a transfer to the same account.
    """

    def __init__(self, run: str, seed: int, accounts: int = 100, ledgers: int = 1) -> None:
        """Account names contain `run`, so that runs on one system do not share accounts."""
        self._random = random.Random(seed)
        names = ["main"] if ledgers == 1 else [f"{run}-{ledger}" for ledger in range(ledgers)]
        self._ledgers = [
            (name, [f"{run}-{name}-{account}" for account in range(accounts)]) for name in names
        ]

    def opening(self) -> list[CommandSpec]:
        """The commands that open every account and deposit money into it."""
        pairs = [(name, account) for name, accounts in self._ledgers for account in accounts]
        opens = [CommandSpec("open", account, ledger=name) for name, account in pairs]
        return opens + [
            CommandSpec("deposit", account, OPENING_BALANCE, ledger=name) for name, account in pairs
        ]

    def next(self) -> CommandSpec:
        """The next command of the stream."""
        rng = self._random
        ledger, accounts = self._ledgers[int(rng.random() * len(self._ledgers))]
        first = int(rng.random() * len(accounts))
        other = accounts[(first + 1 + int(rng.random() * (len(accounts) - 1))) % len(accounts)]
        account, amount, dice = accounts[first], 1 + int(rng.random() * 100), rng.random()
        if dice < 0.02:
            return self._rejected(account, ledger)
        if dice < 0.70:
            return CommandSpec("transfer", account, amount, other, ledger)
        return CommandSpec("deposit" if dice < 0.85 else "withdraw", account, amount, ledger=ledger)

    def _rejected(self, account: str, ledger: str) -> CommandSpec:
        return self._random.choice(
            (
                CommandSpec("open", account, ledger=ledger),
                CommandSpec("deposit", account, 0, ledger=ledger),
                CommandSpec("withdraw", account, 2**50, ledger=ledger),
                CommandSpec("transfer", account, 1, account, ledger),
                CommandSpec("transfer", account, 1, f"{account}-unknown", ledger),
            )
        )
