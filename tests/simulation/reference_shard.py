"""Replays accepted entries from the source records: every outcome and every output."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, NamedTuple

from tests.simulation.reference import Json, parsed
from tests.simulation.reference_ledger import ReferenceLedger, balances_of, envelope, is_command


@dataclass
class Outcome:
    """The first outcome of a command id."""

    id: str
    type: str | None
    events: list[Json] | None
    reason: str | None
    dead_letter: Json | None = None  # topic and offset

    def item(self) -> Json:
        """As in an entry's batch, without unset fields."""
        fields = {
            "id": self.id,
            "type": self.type,
            "events": self.events,
            "rejected": self.reason,
            "dead_letter": self.dead_letter,
        }
        return {name: value for name, value in fields.items() if value is not None}


@dataclass
class Version:
    """The state of the application after an accepted entry."""

    next_seq: int
    accounts: dict[str, int]
    sources: dict[str, int]
    sinks: dict[str, int]


class SourceRecord(NamedTuple):
    """A record of a source; `rejection`: why it is rejected in any state, None if it is not."""

    command: Any
    id: str
    rejection: str | None
    value: bytes


class Unexplained(Exception):
    """An accepted entry does not follow from the source records."""


@dataclass
class ReferenceShard:
    """Replays one shard's accepted entries.

    `source(topic, offset)` returns (key, value); `is_own(key)` returns whether the key belongs to
    the shard.
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
    source_records: dict[tuple[str, int], SourceRecord] = field(default_factory=dict)
    emits: frozenset[str] = frozenset({"results", "balances", "deadletter"})  # the leader's sinks
    next_seq: int = 0
    forgotten: set[str] = field(default_factory=set)
    repeated: list[str] = field(default_factory=list)  # ids in the entry accepted last
    decided_again: list[str] = field(default_factory=list)  # likewise, after the window

    def version(self) -> Version:
        """A copy of the current state."""
        sinks = {sink: len(outputs) for sink, outputs in self.outputs.items()}
        return Version(self.next_seq, dict(self.ledger.accounts), dict(self.sources), sinks)

    def accept(self, entry: Json) -> None:
        """Replay an accepted entry. Raises `Unexplained`.

        The ids of its items show which source records it decides. If one id occurs in two topics,
        there may be several ways to assign them, one of which must fit.
        """
        self.repeated, self.decided_again = [], []
        readings = list(islice(self._readings(entry), 16))
        if not readings:
            raise Unexplained(f"seq {entry['seq']}: not the next source records")
        for reading in readings[:-1]:
            attempt = self._copy()
            try:
                attempt._replay(entry, reading)
            except Unexplained:
                continue
            self.__dict__.update(attempt.__dict__)
            return
        self._replay(entry, readings[-1])

    def predict(self, topic: str, count: int, time: int) -> Json:
        """The fields of the entry that decides the next `count` records of `topic`."""
        future, begin = self._copy(), self.sources.get(topic, 0)
        future.emits = frozenset(self.outputs)
        item = {"dead_letter": {"error": "predicted"}}
        offsets = range(begin, begin + count)
        batch = [future._decide(topic, offset, item, time) for offset in offsets]
        sources = self.sources | {topic: begin + count}
        return {"batch": batch, "sources": sources, "sinks": future.version().sinks, "time": time}

    def _copy(self) -> ReferenceShard:
        return replace(
            self,
            ledger=deepcopy(self.ledger),
            window=dict(self.window),
            order=deque(self.order),
            outputs={sink: list(outputs) for sink, outputs in self.outputs.items()},
            forgotten=set(self.forgotten),
            repeated=[],
            decided_again=[],
        )

    def _readings(self, entry: Json) -> Iterator[list[tuple[str, int]]]:
        """Ways to take the items' ids from the topics, each topic in order and to its end."""
        queues = {
            topic: [
                (topic, offset, self._source_record(topic, offset).id)
                for offset in range(self.sources.get(topic, 0), end)
            ]
            for topic, end in entry["sources"].items()
        }
        ids = [item["id"] for item in entry["batch"]]
        if sum(len(queue) for queue in queues.values()) == len(ids):
            yield from _interleavings(ids, list(queues.values()))

    def _replay(self, entry: Json, reading: list[tuple[str, int]]) -> None:
        self.emits = frozenset(entry["sinks"])
        for item, (topic, offset) in zip(entry["batch"], reading, strict=True):
            expected = self._decide(topic, offset, item, entry["time"])
            if item != expected:
                raise Unexplained(f"seq {entry['seq']}: {item}, must be {expected}")
        self.sources = dict(entry["sources"])
        self.next_seq += len(entry["batch"])
        ends = self.version().sinks
        sinks = {sink: ends[sink] for sink in entry["sinks"]}
        if sinks != entry["sinks"]:
            raise Unexplained(f"sinks end at {entry['sinks']}, must at {sinks}")

    def _source_record(self, topic: str, offset: int) -> SourceRecord:
        """The source record at `offset`, cached."""
        source_records = self.source_records.get((topic, offset))
        if source_records is None:
            key, value = self.source(topic, offset)
            command, rejection = parsed(value), None
            if not is_command(command):
                rejection = "invalid"
            elif not self.is_own(key):
                rejection = "wrong_shard"
            elif command["type"] == "boom":
                rejection = "failed"
            good_id = None if rejection in ("invalid", "wrong_shard") else command["id"]
            command_id = good_id or self._poison_id(command, topic, offset)
            source_records = self.source_records[topic, offset] = SourceRecord(
                command, command_id, rejection, value or b""
            )
        return source_records

    def _decide(self, topic: str, offset: int, item: Json, time: int) -> Json:
        """The item that must be in the batch, and its effect on state and outputs."""
        command, command_id, rejection, value = self._source_record(topic, offset)
        first = self.window.get(command_id)
        if first is not None:
            self.repeated.append(command_id)
            self._emit(first, time, replayed=True)
            return {"id": command_id, "replayed": True}
        if rejection is None:
            outcome = self._apply(command)
        else:
            kind = (envelope(command) or {"type": None})["type"]
            dead_letter = {"topic": topic, "offset": offset, "error": _error(rejection, item)}
            dead_letter["value"] = value.decode("utf-8", "replace")[:1024]
            outcome = Outcome(command_id, kind, None, rejection, dead_letter)
        self._remember(outcome)
        self._emit(outcome, time, replayed=False)
        return outcome.item()

    def _apply(self, command: Json) -> Outcome:
        decided = self.ledger.decide(command)
        if isinstance(decided, str):
            return Outcome(command["id"], command["type"], None, decided)
        return Outcome(command["id"], command["type"], decided, None)

    def _poison_id(self, command: Any, topic: str, offset: int) -> str:
        found = envelope(command)
        usable = found["id"] if found and len(found["id"]) <= 128 else ""
        return usable or f"{topic}/{self.shard}@{offset}"

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
        status = "rejected" if outcome.events is None else "accepted"
        changes = [pair for event in outcome.events or () for pair in balances_of(event).items()]
        balances = dict(changes)
        results.append(
            {"seq": len(results), "id": outcome.id, "type": outcome.type, "status": status,
             "reason": outcome.reason, "balances": balances, "shard": self.shard, "time": time,
             "replayed": replayed}
        )  # fmt: skip
        if replayed:
            return
        sink = self.outputs["balances"]
        for account, balance in changes if "balances" in self.emits else ():
            change = {"seq": len(sink), "account": account, "balance": balance, "id": outcome.id}
            sink.append(change)
        if outcome.dead_letter is not None:
            dead_letters = self.outputs["deadletter"]
            dead_letters.append(
                outcome.dead_letter
                | {"seq": len(dead_letters), "id": outcome.id, "time": time,
                               "reason": outcome.reason, "partition": self.shard}
                        )  # fmt: skip


def _error(rejection: str, item: Json) -> Any:
    """The text of a decoding error is the engine's own and is not checked."""
    known = {"failed": "ValueError: boom", "wrong_shard": "key of another shard"}
    return known.get(rejection) or (item.get("dead_letter") or {}).get("error")


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
