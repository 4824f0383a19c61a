"""The application replayed: what each command must have become, and what sinks must hold."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Generic, TypeVar

import msgspec

from postjournal.core.application import Application, Command, Context, Output, Rejected
from postjournal.core.errors import ApplicationFaulty
from postjournal.core.records import MAX_ID_LENGTH, UNREADABLE, DeadLetter, Outcome
from postjournal.core.sharding import DEFAULT_KEY, shard_of
from postjournal.verify.partition import Row

S = TypeVar("S")
C = TypeVar("C", bound=Command)
E = TypeVar("E")

DEADLETTER = "deadletter"
LONGEST_TYPE = 64
LETTER_CHARACTERS = 1024
LONGEST_REASON = 64
MOST_EVENTS_BYTES = 2_000_000
MOST_LEVELS = 100


class Letter(Output, gc=False, kw_only=True):
    """A record of the dead-letter topic."""

    id: str
    topic: str
    partition: int
    offset: int
    reason: str | None
    error: str
    value: str
    time: int


class _Name(msgspec.Struct):
    id: str = ""
    type: str | None = None


@lru_cache(maxsize=10_000)
def _shard(key: bytes | None, shards: int) -> int:
    return shard_of(DEFAULT_KEY if key is None else key, shards)


class Asked(msgspec.Struct, Generic[C], frozen=True, gc=False):
    """A source record as read: a command, or (`poison`) why it is none.

    `poison`: (reason, error); `type`: None when it cannot be told.
    """

    id: str
    type: str | None
    command: C | None
    poison: tuple[str, str] | None = None


class Replay(Generic[S, C, E]):
    """State and dedupe window as they are after the entries applied so far."""

    def __init__(
        self, application: Application[S, C, E], shard: int, shards: int, dedupe_window: int
    ) -> None:
        """Before the first entry."""
        assert dedupe_window > 0
        self.state = application.initial_state()
        self.window: OrderedDict[str, Outcome[E]] = OrderedDict()
        self._window_size = dedupe_window
        self._shard, self._shards = shard, shards
        self._application = application
        self._evolve = application.evolve
        self._decode = msgspec.json.Decoder(application.command_type).decode
        self._decode_name = msgspec.json.Decoder(_Name).decode
        self._encode = msgspec.json.Encoder().encode
        events = tuple[application.event_type, ...]  # type: ignore[name-defined]
        self._encode_in_order = msgspec.json.Encoder(order="deterministic").encode
        self._decode_events = msgspec.json.Decoder(events).decode
        self._tags: dict[type, str] = {}
        self._sinks = {**application.sinks, DEADLETTER: self._letters}

    def resume(self, outcomes: Iterable[Outcome[E]], state: S) -> None:
        """Begin behind a snapshot, trusting it."""
        self.window = OrderedDict((outcome.id, outcome) for outcome in outcomes)
        self.state = state

    @property
    def sinks(self) -> tuple[str, ...]:
        """The application's, and the dead letters."""
        return tuple(self._sinks)

    # --- what must have been decided --------------------------------------------------------------

    def read(self, topic: str, row: Row) -> Asked[C]:
        """What a source record asks for."""
        offset, key, value = row
        try:
            command: C = self._decode(value)
        except UNREADABLE as error:
            return self._poison(topic, offset, value, "invalid", str(error))
        if self._shards > 1 and _shard(key, self._shards) != self._shard:
            return self._poison(topic, offset, value, "wrong_shard", "key of another shard")
        return Asked(command.id, self._tag(type(command)), command)

    def _poison(self, topic: str, offset: int, value: bytes, reason: str, error: str) -> Asked[C]:
        try:
            name = self._decode_name(value)
        except UNREADABLE:
            name = _Name()
        usable = 0 < len(name.id) <= MAX_ID_LENGTH
        command_id = name.id if usable else f"{topic}/{self._shard}@{offset}"
        kind = name.type if name.type and len(name.type) <= LONGEST_TYPE else None
        return Asked(command_id, kind, None, (reason, error))

    def expected(self, topic: str, row: Row, asked: Asked[C], context: Context) -> Outcome[E]:
        """The batch's item for a source record at the present state."""
        if asked.id in self.window:
            return Outcome(asked.id, replayed=True)
        if asked.command is None:
            return self._dead(topic, row, asked)
        context.id = asked.id
        try:
            decided = self._application.decide(self.state, asked.command, context)
            if isinstance(decided, Rejected):
                return Outcome(asked.id, asked.type, rejected=decided.reason)
            return Outcome(asked.id, asked.type, tuple(decided))
        except Exception as error:  # noqa: BLE001 - what `decide` raises is an outcome as well
            offset, _, value = row
            told = f"{type(error).__name__}: {error}"
            return self._dead(topic, row, self._poison(topic, offset, value, "failed", told))

    def _dead(self, topic: str, row: Row, asked: Asked[C]) -> Outcome[E]:
        assert asked.poison is not None
        reason, error = asked.poison
        text = row[2].decode("utf-8", "replace")[:LETTER_CHARACTERS]
        letter = DeadLetter(topic, row[0], error, text)
        return Outcome(asked.id, asked.type, rejected=reason, dead_letter=letter)

    def same(self, item: Outcome[E], expected: Outcome[E]) -> bool:
        """Whether two items say the same; the words of a dead letter's error are free."""
        if item == expected:
            return True
        is_decided = expected.dead_letter is None and not expected.replayed
        if is_decided and not self._can_be_stored(expected):
            has_failed = item.rejected == "failed" and item.dead_letter is not None
            return has_failed and (item.id, item.type) == (expected.id, expected.type)
        if item.dead_letter is not None and expected.dead_letter is not None:
            letter = msgspec.structs.replace(expected.dead_letter, error=item.dead_letter.error)
            expected = msgspec.structs.replace(expected, dead_letter=letter)
        # An event's own idea of equality does not matter: what is stored does.
        return self._encode_in_order(item) == self._encode_in_order(expected)

    def _can_be_stored(self, decided: Outcome[E]) -> bool:
        """Whether the journal would give back what `decide` returned; else the command failed."""
        if decided.events is None:
            reason: object = decided.rejected
            is_text = isinstance(reason, str) and reason.isprintable()
            return is_text and len(str(reason)) <= LONGEST_REASON
        try:
            stored = self._encode_in_order(decided.events)
            back = self._encode_in_order(self._decode_events(stored))
            is_small = len(stored) <= MOST_EVENTS_BYTES and _levels(stored) <= MOST_LEVELS
        except Exception:  # noqa: BLE001 - whatever the events are, they cannot be stored
            return False
        return is_small and back == stored

    # --- what follows from the journal ------------------------------------------------------------

    def apply(self, item: Outcome[E]) -> Outcome[E]:
        """Take the item's effect; what the sinks are given for it. Raises ApplicationFaulty."""
        if item.replayed:
            first = self.window.get(item.id, item)
            return Outcome(first.id, first.type, first.events, first.rejected, replayed=True)
        state, evolve = self.state, self._evolve
        try:
            for event in item.events or ():
                evolve(state, event)
        except Exception as error:
            raise ApplicationFaulty(f"evolve failed at command {item.id}: {error}") from error
        self.window[item.id] = item
        if len(self.window) > self._window_size:
            self.window.popitem(last=False)
        return item

    def outputs(
        self, sink: str, outcomes: Sequence[Outcome[E]], time: int, first_seq: int
    ) -> list[bytes]:
        """The sink's records for one entry, as bytes. Raises ApplicationFaulty."""
        context = Context(time=time, shard=self._shard)
        make = self._sinks[sink]
        try:
            outputs = [output for outcome in outcomes for output in make(outcome, context)]
        except Exception as error:
            raise ApplicationFaulty(f"sink {sink} failed: {error}") from error
        for seq, output in enumerate(outputs, first_seq):
            output.seq = seq
        return list(map(self._encode, outputs))

    def _letters(self, outcome: Outcome[E], context: Context) -> Iterable[Output]:
        letter = outcome.dead_letter
        if letter is None:
            return ()
        return (
            Letter(
                id=outcome.id,
                topic=letter.topic,
                partition=context.shard,
                offset=letter.offset,
                reason=outcome.rejected,
                error=letter.error,
                value=letter.value,
                time=context.time,
            ),
        )

    def _tag(self, command_type: type[Any]) -> str:
        tag = self._tags.get(command_type)
        if tag is None:
            tag = self._tags[command_type] = str(command_type.__struct_config__.tag)
        return tag


def _levels(text: bytes) -> int:
    """How deep arrays and objects are nested in one another. Raises RecursionError."""
    # Not by msgspec: what a `msgspec.Raw` holds need not be what it takes.
    deepest, parts = 0, [json.loads(text.decode("utf-8", "replace"))]
    while parts := [part for whole in parts for part in _parts(whole)]:
        deepest += 1
    return deepest


def _parts(whole: object) -> list[object]:
    """What it holds; the empty ones' place is taken by None."""
    if isinstance(whole, dict):
        return [*whole.values()] or [None]
    if isinstance(whole, list):
        return [*whole] or [None]
    return []
