"""The rules of the simulation's ledger, implemented a second time."""

from __future__ import annotations

from typing import Any

from tests.simulation.reference import Json

MAX_AMOUNT = 2**53 - 1


class ReferenceLedger:
    """Accounts and their commands. `tally`: the sum of deposits less withdrawals."""

    def __init__(self) -> None:
        self.accounts: dict[str, int] = {}
        self.tally = 0

    def decide(self, command: Json) -> list[Json] | str:
        """Return the events, already applied, or the reason of the rejection."""
        kind = command["type"]
        if kind == "sweep":
            return self._sweep(command["to"])
        decided = self._one_event(kind, command)
        return decided if isinstance(decided, str) else [decided]

    def _one_event(self, kind: str, command: Json) -> Json | str:
        if kind == "open":
            if command["account"] in self.accounts:
                return "account_exists"
            self.accounts[command["account"]] = 0
            return {"type": "opened", "account": command["account"]}
        if kind == "transfer":
            return self._transfer(command["from"], command["to"], command["amount"])
        return self._move(kind, command["account"], command["amount"])

    def _sweep(self, to: str) -> list[Json] | str:
        """Move the balances of all other accounts, in the order of their names."""
        if to not in self.accounts:
            return "unknown_account"
        if sum(self.accounts.values()) > MAX_AMOUNT:
            return "invalid"
        moves = [(name, amount) for name, amount in sorted(self.accounts.items()) if amount]
        return [self._transfer(name, to, amount) for name, amount in moves if name != to]  # type: ignore[misc]

    def _move(self, kind: str, account: str, amount: int) -> Json | str:
        have = self.accounts.get(account)
        if have is None:
            return "unknown_account"
        if kind == "withdraw" and have < amount:
            return "insufficient_funds"
        change = amount if kind == "deposit" else -amount
        if have + change > MAX_AMOUNT:
            return "invalid"
        self.tally += change
        self.accounts[account] = have + change
        name = "deposited" if kind == "deposit" else "withdrawn"
        return {"type": name, "account": account, "amount": amount, "balance": have + change}

    def _transfer(self, source: str, to: str, amount: int) -> Json | str:
        accounts = self.accounts
        if source == to:
            return "same_account"
        if source not in accounts or to not in accounts:
            return "unknown_account"
        if accounts[source] < amount:
            return "insufficient_funds"
        if accounts[to] + amount > MAX_AMOUNT:
            return "invalid"
        accounts[source] -= amount
        accounts[to] += amount
        return {"type": "transferred", "from": source, "to": to, "amount": amount,
                "from_balance": accounts[source], "to_balance": accounts[to]}  # fmt: skip


def balances_of(event: Json) -> dict[str, int]:
    """Account → balance after the event."""
    if event["type"] == "transferred":
        return {event["from"]: event["from_balance"], event["to"]: event["to_balance"]}
    return {event["account"]: event.get("balance", 0)}


def is_command(command: Any) -> bool:
    """Whether the ledger's decoder accepts it."""
    if not isinstance(command, dict) or not _is_name(command.get("id")):
        return False
    kind = command.get("type")
    names = _ACCOUNTS_OF.get(kind if isinstance(kind, str) else "")
    if names is None or not all(_is_name(command.get(name)) for name in names):
        return False
    amount = command.get("amount")
    has_amount = type(amount) is int and 1 <= amount <= MAX_AMOUNT
    return kind in ("open", "sweep", "boom") or has_amount


_ACCOUNTS_OF: dict[str, tuple[str, ...]] = {
    "open": ("account",),
    "deposit": ("account",),
    "withdraw": ("account",),
    "transfer": ("from", "to"),
    "sweep": ("to",),
    "boom": (),
}


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 128


def envelope(command: Any) -> Json | None:
    """`id` and `type` of a record that is not a command, where they are valid."""
    if not isinstance(command, dict):
        return None
    command_id, kind = command.get("id", ""), command.get("type")
    if not isinstance(command_id, str) or not isinstance(kind, str | None):
        return None
    return {"id": command_id, "type": kind if kind and len(kind) <= 64 else None}
