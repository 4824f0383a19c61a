"""Holds the results against what was sent. Knows the ledger's rules from its contract alone."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import msgspec

from loadtest.workload.commands import Order, Orders

MAX_AMOUNT = 2**53 - 1
EXAMPLES = 10
"""How many of each kind of fault are told in words."""


class SeenResult(msgspec.Struct, gc=False):
    """The fields of a results record that an audit needs."""

    seq: int
    id: str
    status: str
    reason: str | None
    balances: dict[str, int]
    replayed: bool


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What an audit found. All of `lost`… to `wrong` must be 0, and the two sums equal.

    `lost`: commands without an outcome; `doubled`: with more than one that is not marked
    `replayed`; `gaps`: sequences that never came; `conflicts`: another record under a sequence
    seen before; `wrong`: outcomes other than the ledger's rules give. `repeats`: records seen
    again under the same sequence, which subscribers drop; `replayed`: answers to repeated
    commands. `balance_sum`: of the last balances told, in minor units; `expected_sum`: accepted
    deposits less accepted withdrawals.
    """

    sent: int
    unacknowledged: int
    outcomes: int
    accepted: int
    rejected: int
    lost: int
    doubled: int
    gaps: int
    conflicts: int
    wrong: int
    repeats: int
    replayed: int
    balance_sum: int
    expected_sum: int
    examples: list[str]

    @property
    def ok(self) -> bool:
        """Nothing is lost, doubled, missing or wrong."""
        faults = (self.lost, self.doubled, self.gaps, self.conflicts, self.wrong)
        return not any(faults) and self.balance_sum == self.expected_sum


@dataclass
class _Place:
    """Of one partition: the next sequence (None: whatever comes first), ids' positions so far."""

    next_seq: int | None
    first_seq: int = 0
    positions: array[int] = field(default_factory=lambda: array("q"))


FOREIGN = -1
"""The position of commands that somebody else sent."""


class Auditor:
    """Takes results in the order of their topic, partition by partition."""

    def __init__(self, orders: Orders, *, from_start: bool = True) -> None:
        """`from_start`: the results topic was empty, so that the first sequence must be 0."""
        self._orders = orders
        self._from_start = from_start
        self._places: dict[int, _Place] = {}
        self._outcomes = bytearray()
        self._decode = msgspec.json.Decoder(SeenResult).decode
        self.balances: dict[str, int] = {}
        self._expected_sum = 0
        self._counts = dict.fromkeys(
            ("accepted", "rejected", "doubled", "gaps", "conflicts", "wrong", "repeats"), 0
        )
        self._replayed = self.decided = 0
        self._examples: dict[str, list[str]] = {}

    def take(self, partition: int, value: bytes) -> int | None:
        """One record. The position of the command if this is its first outcome, else None."""
        result = self._decode(value)
        position = self._orders.position(result.id)
        if not self._is_fresh(partition, result, FOREIGN if position is None else position):
            return None
        if position is None:
            return None
        if result.replayed:
            self._replayed += 1
            return None
        return position if self._is_first(position, result) else None

    def _is_fresh(self, partition: int, result: SeenResult, position: int) -> bool:
        """Whether the sequence is a new one; notes gaps and repeats."""
        place = self._places.get(partition)
        if place is None:
            first = 0 if self._from_start else result.seq
            place = self._places[partition] = _Place(first, first)
        expected, seq = place.next_seq, result.seq
        assert expected is not None
        if seq < expected:
            self._repeat(place, result, position)
            return False
        if seq > expected:
            self._counts["gaps"] += seq - expected - 1
            self._fault("gaps", f"results/{partition}: expected seq {expected}, got {seq}")
            place.positions.extend([FOREIGN] * (seq - expected))
        place.positions.append(position)
        place.next_seq = seq + 1
        return True

    def _repeat(self, place: _Place, result: SeenResult, position: int) -> None:
        self._counts["repeats"] += 1
        index = result.seq - place.first_seq
        if index >= 0 and place.positions[index] != position:
            self._fault("conflicts", f"seq {result.seq} came again with the id {result.id}")

    def _is_first(self, position: int, result: SeenResult) -> bool:
        outcomes = self._outcomes
        if position >= len(outcomes):
            outcomes.extend(bytes(max(position + 1 - len(outcomes), 10_000)))
        if outcomes[position]:
            self._fault("doubled", f"{result.id} has a second outcome at seq {result.seq}")
            self._check(position, result)
            return False
        outcomes[position] = 1
        self.decided += 1
        self._check(position, result)
        return True

    def _check(self, position: int, result: SeenResult) -> None:
        """The ledger's rules, and the books."""
        order = self._orders.order(position)
        reason, balances = expected_outcome(self.balances, order)
        if result.reason != reason or result.balances != balances:
            self._fault(
                "wrong",
                f"seq {result.seq}, {result.id} {order}: {result.status} {result.reason} "
                f"{result.balances}, not {reason} {balances}",
            )
        self._counts["rejected" if result.reason else "accepted"] += 1
        self.balances.update(result.balances)
        if result.reason is None and order.type in ("deposit", "withdraw"):
            self._expected_sum += order.amount if order.type == "deposit" else -order.amount

    def _fault(self, kind: str, text: str) -> None:
        self._counts[kind] += 1
        examples = self._examples.setdefault(kind, [])
        if len(examples) < EXAMPLES:
            examples.append(f"{kind}: {text}")

    @property
    def repeats(self) -> int:
        """Records seen again under the same sequence."""
        return self._counts["repeats"]

    @property
    def complete(self) -> bool:
        """Every acknowledged command has an outcome."""
        return self.decided >= len(self._orders) or not self._lost(1)

    def _lost(self, limit: int | None = None) -> list[int]:
        found: list[int] = []
        for position in range(len(self._orders)):
            seen = position < len(self._outcomes) and self._outcomes[position]
            if not seen and not self._orders.unacknowledged(position):
                found.append(position)
                if limit is not None and len(found) >= limit:
                    break
        return found

    def findings(self) -> Findings:
        """The verdict on all that was taken so far."""
        orders, lost, counts = self._orders, self._lost(), self._counts
        examples = [
            f"lost: command {position} {orders.order(position)}" for position in lost[:EXAMPLES]
        ]
        return Findings(
            sent=len(orders),
            unacknowledged=sum(map(orders.unacknowledged, range(len(orders)))),
            outcomes=self.decided,
            lost=len(lost),
            replayed=self._replayed,
            balance_sum=sum(self.balances.values()),
            expected_sum=self._expected_sum,
            examples=examples + [text for each in self._examples.values() for text in each],
            **counts,
        )


def expected_outcome(balances: dict[str, int], order: Order) -> tuple[str | None, dict[str, int]]:
    """The reason of a rejection or None, and account → balance after it, by the contract."""
    have = balances.get(order.account)
    if order.type == "open":
        return ("account_exists", {}) if have is not None else (None, {order.account: 0})
    if not 1 <= order.amount <= MAX_AMOUNT:
        return "invalid", {}
    if order.type == "transfer":
        return _expected_transfer(balances, order)
    if have is None:
        return "unknown_account", {}
    after = have + order.amount if order.type == "deposit" else have - order.amount
    if after < 0:
        return "insufficient_funds", {}
    return ("invalid", {}) if after > MAX_AMOUNT else (None, {order.account: after})


def _expected_transfer(balances: dict[str, int], order: Order) -> tuple[str | None, dict[str, int]]:
    if order.account == order.to:
        return "same_account", {}
    have, other = balances.get(order.account), balances.get(order.to)
    if have is None or other is None:
        return "unknown_account", {}
    if have < order.amount:
        return "insufficient_funds", {}
    if other + order.amount > MAX_AMOUNT:
        return "invalid", {}
    return None, {order.account: have - order.amount, order.to: other + order.amount}
