"""A replica that a test steps one message at a time, with its journal in memory."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from postjournal.core import messages as m
from postjournal.core.limits import Limits
from postjournal.core.liveness.impairment import Impairment
from postjournal.core.records import Claim, Codec, Heartbeat, SourceRecord
from postjournal.core.replica import Replica
from postjournal.core.roles import Identity, Role
from postjournal.core.sharding import ShardPlace
from postjournal.core.snapshot.image import Image
from postjournal.ledger import Ledger, LedgerEvent

T = TypeVar("T")
FEED = "ledger.feed"
CODEC: Codec[LedgerEvent] = Codec(Ledger.event_type)
OPEN: dict[str, object] = {"type": "open", "id": "1", "account": "x"}


class SteppedReplica:
    """A replica (`core`) with a journal and a clock, both under the test's control.

    What the replica appends is in the journal only after the test calls `deliver` with it.
    `effects`: those of the last step.
    """

    def __init__(
        self,
        name: str = "b",
        restored: Image[Any, Any, Any] | None = None,
        impairment: Impairment | None = None,
        now: int = 1000,
    ) -> None:
        place = ShardPlace(0, 1)
        self.limits = Limits()
        identity = Identity(name, f"{name}-1", f"host-{name}:1", place)
        self.core: Replica[Any, Any, Any]
        self.core = Replica(identity, Ledger(), self.limits, impairment=impairment)
        self.now = now
        self.journal: list[bytes] = []
        self.effects: list[m.Effect] = self.core.start(self.now, self.now)
        self.step(m.Restored(restored))

    def step(self, message: m.Message, after_ms: int = 0) -> list[m.Effect]:
        self.now += after_ms
        self.effects = self.core.step(message, self.now, self.now)
        return self.effects

    def tick(self, after_ms: int) -> list[m.Effect]:
        return self.step(m.Tick(), after_ms)

    def deliver(self, *values: bytes, after_ms: int = 0) -> list[m.Effect]:
        """Append the records to the journal, and let the replica read them."""
        first = len(self.journal)
        self.journal += values
        return self.step(m.JournalRecords(list(enumerate(values, first))), after_ms)

    def of(self, kind: type[T]) -> list[T]:
        """The effects of the last step that are of one kind."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def only(self, kind: type[T]) -> T:
        """The one effect of that kind in the last step."""
        (effect,) = self.of(kind)
        return effect

    def feed(self, *commands: dict[str, object], offset: int = 0) -> list[m.Effect]:
        """Deliver commands of a source topic; `offset`: that of the first."""
        rows: list[SourceRecord] = [
            (offset + n, b"main", msgspec.json.encode(command))
            for n, command in enumerate(commands)
        ]
        return self.step(m.SourceRecords(FEED, self.now, rows))


def claim_of(other: str, epoch: int, seen: int) -> bytes:
    return CODEC.encode(Claim(epoch, other, f"{other}-1", f"host-{other}:1", seen))


def heartbeat(epoch: int, seq: int = 0) -> bytes:
    return CODEC.encode(Heartbeat(epoch, seq, {}, 0))


def standby_of(other: str = "a") -> SteppedReplica:
    """A standby of the leader `other` in epoch 1, in sync."""
    replica = SteppedReplica()
    replica.step(m.JournalEnd(1))
    replica.deliver(claim_of(other, 1, -1))
    assert replica.core.role is Role.STANDBY
    return replica


def leader() -> SteppedReplica:
    """A leader of epoch 1 whose first heartbeat is read back."""
    replica = SteppedReplica()
    replica.step(m.JournalEnd(0))
    replica.deliver(replica.only(m.AppendClaim).value)
    first_heartbeat = replica.only(m.Append)
    assert replica.core.role is Role.LEADER
    replica.deliver(first_heartbeat.value)
    return replica


def depose(replica: SteppedReplica) -> None:
    """Let `c` claim the next epoch."""
    replica.deliver(claim_of("c", 2, len(replica.journal) - 1))


def opened(number: int) -> dict[str, object]:
    return {"type": "open", "id": f"id-{number}", "account": f"account-{number}"}
