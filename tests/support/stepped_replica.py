"""A replica that a test steps one message at a time, with its journal in memory."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from postjournal.core import messages as m
from postjournal.core.limits import Limits
from postjournal.core.records import Claim, Codec, Heartbeat, SourceRecord
from postjournal.core.replica import Replica
from postjournal.core.roles import Identity, Role
from postjournal.core.snapshot.image import Image
from postjournal.core.state.state_machine import ShardPlace
from postjournal.ledger import Ledger, LedgerEvent

T = TypeVar("T")
FEED = "ledger.feed"
CODEC: Codec[LedgerEvent] = Codec(Ledger.event_type)
OPEN: dict[str, object] = {"type": "open", "id": "1", "account": "x"}


class Bench:
    """A replica, its journal and a clock; what it appends is read back only through `land`."""

    def __init__(self, name: str = "b", restored: Image[Any, Any, Any] | None = None) -> None:
        place = ShardPlace(0, 1)
        self.limits = Limits()
        identity = Identity(name, f"{name}-1", f"host-{name}:1", place)
        self.replica: Replica[Any, Any, Any] = Replica(identity, Ledger(), self.limits)
        self.now = 1000
        self.journal: list[bytes] = []
        self.effects: list[m.Effect] = self.replica.start(self.now, self.now)
        self.step(m.Restored(restored))

    def step(self, message: m.Message, after_ms: int = 0) -> list[m.Effect]:
        self.now += after_ms
        self.effects = self.replica.step(message, self.now, self.now)
        return self.effects

    def tick(self, after_ms: int) -> list[m.Effect]:
        return self.step(m.Tick(), after_ms)

    def land(self, *values: bytes, after_ms: int = 0) -> list[m.Effect]:
        first = len(self.journal)
        self.journal += values
        return self.step(m.JournalRecords(list(enumerate(values, first))), after_ms)

    def of(self, kind: type[T]) -> list[T]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def feed(self, *commands: dict[str, object], offset: int = 0) -> list[m.Effect]:
        rows: list[SourceRecord] = [
            (offset + n, b"main", msgspec.json.encode(command))
            for n, command in enumerate(commands)
        ]
        return self.step(m.SourceRecords(FEED, self.now, rows))


def claim_of(other: str, epoch: int, seen: int) -> bytes:
    return CODEC.encode(Claim(epoch, other, f"{other}-1", f"host-{other}:1", seen))


def heartbeat(epoch: int, seq: int = 0) -> bytes:
    return CODEC.encode(Heartbeat(epoch, seq, {}, 0))


def standby_of(other: str = "a") -> Bench:
    """A standby of the leader `other` in epoch 1, in sync."""
    bench = Bench()
    bench.step(m.JournalEnd(1))
    bench.land(claim_of(other, 1, -1))
    assert bench.replica.role is Role.STANDBY
    return bench


def leader() -> Bench:
    """A leader of epoch 1 whose first heartbeat is read back."""
    bench = Bench()
    bench.step(m.JournalEnd(0))
    (claim,) = bench.of(m.AppendClaim)
    bench.land(claim.value)
    (beat,) = bench.of(m.Append)
    assert bench.replica.role is Role.LEADER
    bench.land(beat.value)
    return bench


def depose(bench: Bench) -> None:
    """Let `c` claim the next epoch."""
    bench.land(claim_of("c", 2, len(bench.journal) - 1))


def opened(number: int) -> dict[str, object]:
    return {"type": "open", "id": f"id-{number}", "account": f"account-{number}"}
