"""Replays the application: the expected outcome of each command and the expected outputs."""

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

# The engine has the same limits; what exceeds them makes the command fail.
MAX_TYPE_LENGTH = 64
MAX_REASON_LENGTH = 64
MAX_EVENTS_BYTES = 2_000_000
MAX_NESTING = 100

DEAD_LETTER_CHARACTERS = 1024
"""A dead letter holds the beginning of the source record's value."""


class DeadLetterRecord(Output, gc=False, kw_only=True):
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


class SourceCommand(msgspec.Struct, Generic[C], frozen=True, gc=False):
    """A source record as decoded: a command, or the reason why it is not a command.

    `type`: None when the record does not show one; `poison`: (reason, error).
    """

    id: str
    type: str | None
    command: C | None
    poison: tuple[str, str] | None = None


class Replay(Generic[S, C, E]):
    """State and dedupe window after the entries applied so far."""

    def __init__(
        self, application: Application[S, C, E], shard: int, shards: int, dedupe_window: int
    ) -> None:
        """Start before the first entry. `dedupe_window`: in commands, at least 1."""
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
        self._sinks = {**application.sinks, DEADLETTER: self._dead_letters}

    def resume(self, outcomes: Iterable[Outcome[E]], state: S) -> None:
        """Start behind a snapshot whose content is trusted."""
        self.window = OrderedDict((outcome.id, outcome) for outcome in outcomes)
        self.state = state

    # --- decisions --------------------------------------------------------------------------------

    def read(self, topic: str, row: Row) -> SourceCommand[C]:
        """Decode a source record; one that is not a command of this shard has `poison`."""
        offset, key, value = row
        try:
            command: C = self._decode(value)
        except UNREADABLE as error:
            return self._poison(topic, offset, value, "invalid", str(error))
        if self._shards > 1 and _shard(key, self._shards) != self._shard:
            return self._poison(topic, offset, value, "wrong_shard", "key of another shard")
        return SourceCommand(command.id, self._tag(type(command)), command)

    def _poison(
        self, topic: str, offset: int, value: bytes, reason: str, error: str
    ) -> SourceCommand[C]:
        try:
            name = self._decode_name(value)
        except UNREADABLE:
            name = _Name()
        usable = 0 < len(name.id) <= MAX_ID_LENGTH
        command_id = name.id if usable else f"{topic}/{self._shard}@{offset}"
        kind = name.type if name.type and len(name.type) <= MAX_TYPE_LENGTH else None
        return SourceCommand(command_id, kind, None, (reason, error))

    def expected(
        self, topic: str, row: Row, source: SourceCommand[C], context: Context
    ) -> Outcome[E]:
        """The outcome that the batch must have for a source record, given the current state.

        Sets `context.id`.
        """
        if source.id in self.window:
            return Outcome(source.id, replayed=True)
        if source.command is None:
            return self._dead_letter(topic, row, source)
        context.id = source.id
        try:
            decided = self._application.decide(self.state, source.command, context)
            if isinstance(decided, Rejected):
                return Outcome(source.id, source.type, rejected=decided.reason)
            return Outcome(source.id, source.type, tuple(decided))
        except Exception as error:  # noqa: BLE001 - an exception of `decide` is an outcome as well
            offset, _, value = row
            text = f"{type(error).__name__}: {error}"
            return self._dead_letter(topic, row, self._poison(topic, offset, value, "failed", text))

    def _dead_letter(self, topic: str, row: Row, source: SourceCommand[C]) -> Outcome[E]:
        assert source.poison is not None
        reason, error = source.poison
        text = row[2].decode("utf-8", "replace")[:DEAD_LETTER_CHARACTERS]
        letter = DeadLetter(topic, row[0], error, text)
        return Outcome(source.id, source.type, rejected=reason, dead_letter=letter)

    def same(self, item: Outcome[E], expected: Outcome[E]) -> bool:
        """Whether two items are equal as stored; the error text of a dead letter may differ."""
        if item == expected:
            return True
        is_decided = expected.dead_letter is None and not expected.replayed
        if is_decided and not self._can_be_stored(expected):
            has_failed = item.rejected == "failed" and item.dead_letter is not None
            return has_failed and (item.id, item.type) == (expected.id, expected.type)
        if item.dead_letter is not None and expected.dead_letter is not None:
            letter = msgspec.structs.replace(expected.dead_letter, error=item.dead_letter.error)
            expected = msgspec.structs.replace(expected, dead_letter=letter)
        # An application may define `__eq__` of its events; only what is stored matters here.
        return self._encode_in_order(item) == self._encode_in_order(expected)

    def _can_be_stored(self, decided: Outcome[E]) -> bool:
        """Whether what `decide` returned survives encoding; if not, the command has failed."""
        if decided.events is None:
            reason: object = decided.rejected
            is_text = isinstance(reason, str) and reason.isprintable()
            return is_text and len(str(reason)) <= MAX_REASON_LENGTH
        try:
            stored = self._encode_in_order(decided.events)
            back = self._encode_in_order(self._decode_events(stored))
            is_small = len(stored) <= MAX_EVENTS_BYTES and _nesting(stored) <= MAX_NESTING
        except Exception:  # noqa: BLE001 - any exception means that they cannot be stored
            return False
        return is_small and back == stored

    # --- effects and outputs ----------------------------------------------------------------------

    def apply(self, item: Outcome[E]) -> Outcome[E]:
        """Apply an item to state and window; returns the outcome that the sinks receive.

        For a repeat that is the first outcome. Raises `ApplicationFaulty` when `evolve` fails.
        """
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
        """The sink's records for one entry, encoded, numbered from `first_seq`.

        `outcomes`: from `apply`; `time`: the entry's. Raises `ApplicationFaulty` if the sink fails.
        """
        context = Context(time=time, shard=self._shard)
        make = self._sinks[sink]
        try:
            outputs = [output for outcome in outcomes for output in make(outcome, context)]
        except Exception as error:
            raise ApplicationFaulty(f"sink {sink} failed: {error}") from error
        for seq, output in enumerate(outputs, first_seq):
            output.seq = seq
        return list(map(self._encode, outputs))

    def _dead_letters(self, outcome: Outcome[E], context: Context) -> Iterable[Output]:
        letter = outcome.dead_letter
        if letter is None:
            return ()
        return (
            DeadLetterRecord(
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


def _nesting(text: bytes) -> int:
    """How deep arrays and objects are nested. Raises RecursionError."""
    # Not msgspec: a `msgspec.Raw` may hold text that msgspec does not accept.
    depth, level = 0, [json.loads(text.decode("utf-8", "replace"))]
    while level := [child for value in level for child in _children(value)]:
        depth += 1
    return depth


def _children(value: object) -> list[object]:
    """An empty array or object counts as a level of its own, hence the None."""
    if isinstance(value, dict):
        return [*value.values()] or [None]
    if isinstance(value, list):
        return [*value] or [None]
    return []
