"""What the journal means, written a second time, straight from design.md: plain and slow.

Nothing of the engine is imported. `ReferenceFold` is section 1; `ReferenceLedger` is section 3;
`ReferenceShard` replays accepted entries from the source records and so knows every outcome and
every output.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from typing import Any

Json = dict[str, Any]
Point = tuple[int, str | None, int, bool, int, str, dict[str, int]]
"""epoch, leader, alive_at, resigned, next_seq, digest, published"""

ACCEPTED, VOID, ALARM = "accepted", "void", "alarm"
KINDS = ("claim", "entry", "heartbeat", "resign")
MAX_AMOUNT = 2**53 - 1


def parsed(value: bytes | None) -> Any:
    """JSON, or None."""
    try:
        return json.loads(value or b"")
    except ValueError:
        return None


@lru_cache(maxsize=4_096)
def parsed_command(value: bytes | None) -> Any:
    """The same, for what is looked at several times; nobody changes it."""
    return parsed(value)


class ReferenceFold:
    """State: `epoch, leader, alive_at, resigned, next_seq, digest, published`."""

    def __init__(self) -> None:
        """Before the first record."""
        self.epoch, self.leader, self.alive_at = 0, None, -1
        self.resigned, self.next_seq, self.digest = False, 0, "0" * 32
        self.published: dict[str, int] = {}

    def point(self) -> Point:
        """The state now."""
        return (self.epoch, self.leader, self.alive_at, self.resigned, self.next_seq,
                self.digest, dict(self.published))  # fmt: skip

    def take(self, offset: int, value: bytes, record: Json | None) -> str:
        """The verdict on a record."""
        kind = record.get("kind") if isinstance(record, dict) else None
        if kind not in KINDS or record is None:
            return VOID
        if kind == "claim":
            return self._claim(offset, record)
        current = record["epoch"] == self.epoch and self.epoch > 0
        if kind == "resign":
            if current:
                self.alive_at, self.resigned = offset, True
            return ACCEPTED if current else VOID
        if not current or self.resigned or record["seq"] != self.next_seq:
            return VOID
        if kind == "entry" and not record["batch"]:
            return VOID
        if kind == "entry" and record["digest_before"] != self.digest:
            return ALARM
        self.alive_at = offset
        if kind == "entry":
            self.next_seq += len(record["batch"])
            self.digest = blake2b(self.digest.encode() + value, digest_size=16).hexdigest()
        for sink, mark in record["published"].items():
            if mark > self.published.get(sink, 0):  # a mark never falls; none is as good as 0
                self.published[sink] = mark
        return ACCEPTED

    def _claim(self, offset: int, claim: Json) -> str:
        if claim["epoch"] == self.epoch + 1 and claim["seen"] >= self.alive_at:
            self.epoch, self.leader = claim["epoch"], claim["incarnation"]
            self.alive_at, self.resigned = offset, False
            return ACCEPTED
        return VOID


class ReferenceLedger:
    """Accounts and what may be done with them. `tally`: deposits less withdrawals."""

    def __init__(self) -> None:
        """No accounts."""
        self.accounts: dict[str, int] = {}
        self.tally = 0

    def decide(self, command: Json) -> Json | str:
        """The event, already applied, or the reason of the rejection."""
        kind = command["type"]
        if kind == "open":
            if command["account"] in self.accounts:
                return "account_exists"
            self.accounts[command["account"]] = 0
            return {"type": "opened", "account": command["account"]}
        if kind == "transfer":
            return self._transfer(command["from"], command["to"], command["amount"])
        return self._move(kind, command["account"], command["amount"])

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


def balances_of(event: Json | None) -> dict[str, int]:
    """Account → balance after the event."""
    if event is None:
        return {}
    if event["type"] == "transferred":
        return {event["from"]: event["from_balance"], event["to"]: event["to_balance"]}
    return {event["account"]: event.get("balance", 0)}


def is_command(command: Any) -> bool:
    """Whether the ledger's decoder takes it."""
    if not isinstance(command, dict) or not _is_name(command.get("id")):
        return False
    kind = command.get("type")
    names = {"open": ("account",), "deposit": ("account",), "withdraw": ("account",),
             "transfer": ("from", "to")}.get(kind if isinstance(kind, str) else "")  # fmt: skip
    if names is None or not all(_is_name(command.get(name)) for name in names):
        return False
    amount = command.get("amount")
    return kind == "open" or (type(amount) is int and 1 <= amount <= MAX_AMOUNT)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 128


@dataclass
class Outcome:
    """The first outcome of a command id."""

    id: str
    type: str | None
    event: Json | None
    reason: str | None
    dead: Json | None = None  # topic and offset

    def item(self) -> Json:
        """As it stands in an entry's batch; nothing that is unset."""
        item: Json = {"id": self.id, "type": self.type, "rejected": self.reason}
        item["events"] = None if self.event is None else [self.event]
        item["dead_letter"] = self.dead
        return {name: value for name, value in item.items() if value is not None}


@dataclass
class Version:
    """The application after an accepted entry."""

    next_seq: int
    accounts: dict[str, int]
    sources: dict[str, int]
    sinks: dict[str, int]


class Unexplained(Exception):
    """An accepted entry does not follow from the source records."""


@dataclass
class ReferenceShard:
    """One shard: replays accepted entries.

    `source(topic, offset)` gives (key, value); `is_own(key)` tells whether it is this shard's.
    """

    shard: int
    window_size: int
    source: Callable[[str, int], tuple[bytes | None, bytes | None]]
    is_own: Callable[[bytes | None], bool]
    ledger: ReferenceLedger = field(default_factory=ReferenceLedger)
    window: dict[str, Outcome] = field(default_factory=dict)
    order: deque[str] = field(default_factory=deque)
    sources: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, list[Json]] = field(
        default_factory=lambda: {"results": [], "balances": [], "deadletter": []}
    )
    next_seq: int = 0
    forgotten: set[str] = field(default_factory=set)
    repeated: list[str] = field(default_factory=list)  # ids, of the entry accepted last
    decided_again: list[str] = field(default_factory=list)  # likewise, after the window

    def version(self) -> Version:
        """A copy of what there is now."""
        sinks = {sink: len(outputs) for sink, outputs in self.outputs.items()}
        return Version(self.next_seq, dict(self.ledger.accounts), dict(self.sources), sinks)

    def accept(self, entry: Json) -> None:
        """Replay an accepted entry. Raises `Unexplained`.

        Which source records its items decide follows from their ids; when one id stands in two
        topics there may be several ways to read that, of which one must be right.
        """
        self.repeated, self.decided_again = [], []
        readings = list(islice(self._readings(entry), 16))
        if not readings:
            raise Unexplained(f"seq {entry['seq']}: not the next source records")
        for reading in readings[:-1]:
            attempt = replace(
                self,
                ledger=deepcopy(self.ledger),
                window=dict(self.window),
                order=deque(self.order),
                outputs={sink: list(outputs) for sink, outputs in self.outputs.items()},
                forgotten=set(self.forgotten),
                repeated=[],
                decided_again=[],
            )
            try:
                attempt._replay(entry, reading)
            except Unexplained:
                continue
            self.__dict__.update(attempt.__dict__)
            return
        self._replay(entry, readings[-1])

    def _readings(self, entry: Json) -> Iterator[list[tuple[str, int]]]:
        """Ways to take the items' ids from the topics, each topic in order and to its end."""
        queues = {
            topic: [
                (topic, offset, self._id_of(topic, offset))
                for offset in range(self.sources.get(topic, 0), end)
            ]
            for topic, end in entry["sources"].items()
        }
        ids = [item["id"] for item in entry["batch"]]
        if sum(len(queue) for queue in queues.values()) == len(ids):
            yield from _interleavings(ids, list(queues.values()))

    def _replay(self, entry: Json, reading: list[tuple[str, int]]) -> None:
        for item, (topic, offset) in zip(entry["batch"], reading, strict=True):
            expected = self._decide(topic, offset, item, entry["time"])
            if item != expected:
                raise Unexplained(f"seq {entry['seq']}: {item}, must be {expected}")
        self.sources = dict(entry["sources"])
        self.next_seq += len(entry["batch"])
        sinks = self.version().sinks
        if sinks != entry["sinks"]:
            raise Unexplained(f"sinks end at {entry['sinks']}, must at {sinks}")

    def _id_of(self, topic: str, offset: int) -> str:
        key, value = self.source(topic, offset)
        command = parsed_command(value)
        if is_command(command) and self.is_own(key):
            return str(command["id"])
        return self._poison_id(command, topic, offset)

    def _decide(self, topic: str, offset: int, item: Json, time: int) -> Json:
        """What the item must be."""
        key, value = self.source(topic, offset)
        command, command_id = parsed_command(value), self._id_of(topic, offset)
        first = self.window.get(command_id)
        if first is not None:
            self.repeated.append(command_id)
            self._emit(first, time, replayed=True)
            return {"id": command_id, "replayed": True}
        if is_command(command) and self.is_own(key):
            outcome = self._do(command)
        else:
            outcome = self._poison(command, command_id, topic, offset)
            # The error's text and the value's beginning are as the decoder has them.
            outcome.dead = (outcome.dead or {}) | _rest_of_letter(item)
        self._remember(outcome)
        self._emit(outcome, time, replayed=False)
        return outcome.item()

    def _do(self, command: Json) -> Outcome:
        decided = self.ledger.decide(command)
        if isinstance(decided, str):
            return Outcome(command["id"], command["type"], None, decided)
        return Outcome(command["id"], command["type"], decided, None)

    def _poison_id(self, command: Any, topic: str, offset: int) -> str:
        envelope = _envelope(command)
        usable = envelope["id"] if envelope and len(envelope["id"]) <= 128 else ""
        return usable or f"{topic}/{self.shard}@{offset}"

    def _poison(self, command: Any, command_id: str, topic: str, offset: int) -> Outcome:
        envelope = _envelope(command) or {"type": None}
        reason = "wrong_shard" if is_command(command) else "invalid"
        dead = {"topic": topic, "offset": offset}
        return Outcome(command_id, envelope["type"], None, reason, dead)

    def _remember(self, outcome: Outcome) -> None:
        if outcome.id in self.forgotten:
            self.decided_again.append(outcome.id)
        self.window[outcome.id] = outcome
        self.order.append(outcome.id)
        if len(self.order) > self.window_size:
            oldest = self.order.popleft()
            del self.window[oldest]
            self.forgotten.add(oldest)

    def _emit(self, outcome: Outcome, time: int, *, replayed: bool) -> None:
        results = self.outputs["results"]
        status = "rejected" if outcome.event is None else "accepted"
        balances = balances_of(outcome.event)
        results.append(
            {"seq": len(results), "id": outcome.id, "type": outcome.type, "status": status,
             "reason": outcome.reason, "balances": balances, "shard": self.shard, "time": time,
             "replayed": replayed}
        )  # fmt: skip
        if replayed:
            return
        sink = self.outputs["balances"]
        for account, balance in balances.items():
            change = {"seq": len(sink), "account": account, "balance": balance, "id": outcome.id}
            sink.append(change)
        if outcome.dead is not None:
            dead = self.outputs["deadletter"]
            dead.append(outcome.dead | {"seq": len(dead), "id": outcome.id, "time": time,
                        "reason": outcome.reason, "partition": self.shard})  # fmt: skip


def _envelope(command: Any) -> Json | None:
    """`id` and `type` of what is no command, if it is so far in order."""
    if not isinstance(command, dict):
        return None
    command_id, kind = command.get("id", ""), command.get("type")
    if not isinstance(command_id, str) or not isinstance(kind, str | None):
        return None
    return {"id": command_id, "type": kind if kind and len(kind) <= 64 else None}


def _rest_of_letter(item: Json) -> Json:
    letter = item.get("dead_letter") or {}
    return {name: letter.get(name) for name in ("error", "value")}


def _interleavings(
    ids: list[str], queues: list[list[tuple[str, int, str]]], at: int = 0
) -> Iterator[list[tuple[str, int]]]:
    """Ways to take `ids[at:]` from the heads of the queues."""
    taken: list[tuple[str, int]] = []
    while at < len(ids):
        fitting = [n for n, queue in enumerate(queues) if queue and queue[0][2] == ids[at]]
        if not fitting:
            return
        if len(fitting) > 1:
            for number in fitting:
                rest = [queue[n == number :] for n, queue in enumerate(queues)]
                head = queues[number][0][:2]
                for tail in _interleavings(ids, rest, at + 1):
                    yield [*taken, head, *tail]
            return
        number = fitting[0]
        taken.append(queues[number][0][:2])
        queues = [queue[n == number :] for n, queue in enumerate(queues)]
        at += 1
    yield taken
