"""Compares the results with the commands sent. Implements the ledger's rules independently."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from loadtest.progress import check_mark
from loadtest.workload.commands import CommandIndex, CommandSpec

MAX_AMOUNT = 2**53 - 1
EXAMPLES = 10
"""How many violations of each kind are described."""


class SeenResult(msgspec.Struct, gc=False):
    """The fields of a results record that an audit needs."""

    seq: int
    id: str
    status: str
    reason: str | None
    balances: dict[str, int]
    replayed: bool


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an audit. `lost` to `wrong` must be 0, and the two sums equal.

    `lost`: commands without an outcome; `doubled`: with more than one that is not marked
    `replayed`; `gaps`: sequences that never came; `conflicts`: another record under a sequence
    seen before; `wrong`: outcomes other than the ledger's rules give. `repeats`: records seen
    again under the same sequence, which subscribers drop; `replayed`: answers to repeated
    commands. `balance_sum`: of each account's last balance in the results, in minor units;
    `expected_sum`: accepted deposits less accepted withdrawals.
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

    @classmethod
    def sum_of(cls, parts: Sequence[Findings]) -> Findings:
        """Of audits that are independent of each other, such as one for each shard."""
        numbers = [name for name in cls.__struct_fields__ if name != "examples"]
        sums = {name: sum(getattr(part, name) for part in parts) for name in numbers}
        return cls(**sums, examples=[text for part in parts for text in part.examples])

    @property
    def ok(self) -> bool:
        violations = (self.lost, self.doubled, self.gaps, self.conflicts, self.wrong)
        return not any(violations) and self.balance_sum == self.expected_sum

    def summary(self) -> str:
        """One line, with rich's markup."""
        return (
            f"{check_mark(self.ok)} audit: {self.sent} sent, {self.outcomes} outcomes "
            f"({self.rejected} rejected as they had to be); {self.lost} lost, "
            f"{self.doubled} applied twice, {self.gaps} gaps in seq, {self.wrong} wrong, "
            f"{self.conflicts} conflicting; {self.repeats} published again and dropped; "
            f"balances {self.balance_sum} of {self.expected_sum}"
        )

    def failures(self) -> list[str]:
        """What to print when the audit failed; empty when it passed."""
        return [] if self.ok else [*self.examples, "the audit failed: see above, and the JSON"]


@dataclass
class _Partition:
    """`positions`: of the commands of all results since `first_seq`."""

    first_seq: int
    next_seq: int
    positions: array[int] = field(default_factory=lambda: array("q"))


NOT_OURS = -1
"""The position of commands that another client sent."""


class Auditor:
    """Audits results, which are added in the order of their topic, partition by partition."""

    def __init__(self, commands: CommandIndex, *, from_start: bool = True) -> None:
        """`from_start`: the results topic was empty, so that the first sequence must be 0."""
        self._commands = commands
        self._from_start = from_start
        self._partitions: dict[int, _Partition] = {}
        self._has_outcome = bytearray()
        self._decode = msgspec.json.Decoder(SeenResult).decode
        self.balances: dict[str, int] = {}
        self.repeats = self.decided = 0
        self._replayed = self._expected_sum = 0
        self._counts = Counter[str]()
        self._examples: dict[str, list[str]] = {}

    def add(self, partition: int, value: bytes) -> int | None:
        """Audit one record; return the command's position if this is its first outcome."""
        result = self._decode(value)
        position = self._commands.position(result.id)
        if not self._is_new_seq(partition, result, NOT_OURS if position is None else position):
            return None
        if position is None:
            return None
        if result.replayed:
            self._replayed += 1
            return None
        return position if self._is_first(position, result) else None

    def _is_new_seq(self, number: int, result: SeenResult, position: int) -> bool:
        partition = self._partitions.get(number)
        if partition is None:
            first = 0 if self._from_start else result.seq
            partition = self._partitions[number] = _Partition(first, first)
        expected, seq = partition.next_seq, result.seq
        if seq < expected:
            self._repeat(partition, result, position)
            return False
        if seq > expected:
            self._violation(
                "gaps", f"results/{number}: expected seq {expected}, got {seq}", seq - expected
            )
            partition.positions.extend([NOT_OURS] * (seq - expected))
        partition.positions.append(position)
        partition.next_seq = seq + 1
        return True

    def _repeat(self, partition: _Partition, result: SeenResult, position: int) -> None:
        self.repeats += 1
        index = result.seq - partition.first_seq
        if index >= 0 and partition.positions[index] != position:
            self._violation("conflicts", f"seq {result.seq} came again with the id {result.id}")

    def _is_first(self, position: int, result: SeenResult) -> bool:
        seen = self._has_outcome
        if position >= len(seen):
            seen.extend(bytes(max(position + 1 - len(seen), 10_000)))
        is_first = not seen[position]
        if is_first:
            seen[position] = 1
            self.decided += 1
        else:
            self._violation("doubled", f"{result.id} has a second outcome at seq {result.seq}")
        self._apply(position, result)
        return is_first

    def _apply(self, position: int, result: SeenResult) -> None:
        """Check the outcome against the ledger's rules, and update the balances."""
        spec = self._commands.spec(position)
        reason, balances = expected_outcome(self.balances, spec)
        if result.reason != reason or result.balances != balances:
            self._violation(
                "wrong",
                f"seq {result.seq}, {result.id} {spec}: {result.status} {result.reason} "
                f"{result.balances}, not {reason} {balances}",
            )
        self._counts["rejected" if result.reason else "accepted"] += 1
        self.balances.update(result.balances)
        if result.reason is None and spec.type in ("deposit", "withdraw"):
            self._expected_sum += spec.amount if spec.type == "deposit" else -spec.amount

    def _violation(self, kind: str, text: str, count: int = 1) -> None:
        self._counts[kind] += count
        examples = self._examples.setdefault(kind, [])
        if len(examples) < EXAMPLES:
            examples.append(f"{kind}: {text}")

    @property
    def is_complete(self) -> bool:
        """Whether every acknowledged command has an outcome."""
        return self.decided >= len(self._commands) or not self._lost(1)

    def _lost(self, limit: int | None = None) -> list[int]:
        found: list[int] = []
        for position in range(len(self._commands)):
            seen = position < len(self._has_outcome) and self._has_outcome[position]
            if not seen and not self._commands.is_unacknowledged(position):
                found.append(position)
                if limit is not None and len(found) >= limit:
                    break
        return found

    def findings(self) -> Findings:
        """The result for everything added so far."""
        commands, lost, counts = self._commands, self._lost(), self._counts
        examples = [
            f"lost: command {position} {commands.spec(position)}" for position in lost[:EXAMPLES]
        ]
        return Findings(
            sent=len(commands),
            unacknowledged=sum(map(commands.is_unacknowledged, range(len(commands)))),
            outcomes=self.decided,
            accepted=counts["accepted"],
            rejected=counts["rejected"],
            lost=len(lost),
            doubled=counts["doubled"],
            gaps=counts["gaps"],
            conflicts=counts["conflicts"],
            wrong=counts["wrong"],
            repeats=self.repeats,
            replayed=self._replayed,
            balance_sum=sum(self.balances.values()),
            expected_sum=self._expected_sum,
            examples=[*examples, *(text for texts in self._examples.values() for text in texts)],
        )


def expected_outcome(
    balances: dict[str, int], spec: CommandSpec
) -> tuple[str | None, dict[str, int]]:
    """By the contract: a rejection's reason or None, and account → balance after the command."""
    balance = balances.get(spec.account)
    if spec.type == "open":
        return ("account_exists", {}) if balance is not None else (None, {spec.account: 0})
    if not 1 <= spec.amount <= MAX_AMOUNT:
        return "invalid", {}
    if spec.type == "transfer":
        return _expected_transfer(balances, spec)
    if balance is None:
        return "unknown_account", {}
    after = balance + spec.amount if spec.type == "deposit" else balance - spec.amount
    if after < 0:
        return "insufficient_funds", {}
    return ("invalid", {}) if after > MAX_AMOUNT else (None, {spec.account: after})


def _expected_transfer(
    balances: dict[str, int], spec: CommandSpec
) -> tuple[str | None, dict[str, int]]:
    if spec.account == spec.to:
        return "same_account", {}
    source, target = balances.get(spec.account), balances.get(spec.to)
    if source is None or target is None:
        return "unknown_account", {}
    if source < spec.amount:
        return "insufficient_funds", {}
    if target + spec.amount > MAX_AMOUNT:
        return "invalid", {}
    return None, {spec.account: source - spec.amount, spec.to: target + spec.amount}
