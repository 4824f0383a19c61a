"""The state machine of one shard: decides commands (leader), applies entries (everybody else).

Both ways lead to the same state, window, positions and outputs: that is the whole point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

import msgspec

from postjournal.core.application import Application, Command, Context, Output, Rejected
from postjournal.core.dedupe import DedupeWindow
from postjournal.core.errors import ApplicationFaulty
from postjournal.core.messages import SourceRecord
from postjournal.core.outbox import Outbox
from postjournal.core.records import MAX_ID_LENGTH, DeadLetter, Entry, Outcome
from postjournal.core.sharding import DEFAULT_KEY, shard_of

S = TypeVar("S")
C = TypeVar("C", bound=Command)
E = TypeVar("E")

Run: TypeAlias = tuple[str, list[SourceRecord]]
"""Consecutive records of one source topic."""

DEADLETTER = "deadletter"
"""The engine's own sink: one record per command that could not be decided."""

INVALID, WRONG_SHARD, FAILED = "invalid", "wrong_shard", "failed"
"""Why the engine rejects: not decodable; another shard's key; `decide` raised."""

DEAD_VALUE_CHARACTERS = 1024


class DeadLetterOutput(Output, gc=False, kw_only=True):
    """A record of the dead-letter topic: where the whole command stands, and what was wrong."""

    id: str
    topic: str
    partition: int
    offset: int
    reason: str | None
    error: str
    value: str
    time: int


class _Envelope(msgspec.Struct):
    """What can be told of a command that is otherwise invalid."""

    id: str = ""
    type: str | None = None


@dataclass(frozen=True)
class ShardPlace:
    """Which shard of how many."""

    shard: int
    shards: int


class Machine(Generic[S, C, E]):
    """All that snapshots must hold besides the fold: see design.md, section 2."""

    def __init__(
        self, application: Application[S, C, E], place: ShardPlace, dedupe_window: int
    ) -> None:
        """An empty machine: the application's initial state, nothing remembered."""
        self.place = place
        self._sharded = place.shards > 1
        self.state = application.initial_state()
        self.window: DedupeWindow[E] = DedupeWindow(dedupe_window)
        self.sources: dict[str, int] = {}
        self.outboxes = {sink: Outbox(sink) for sink in (*application.sinks, DEADLETTER)}
        self._application = application
        self._sinks = tuple(application.sinks.items())
        self._decode = msgspec.json.Decoder(application.command_type).decode
        self._envelope = msgspec.json.Decoder(_Envelope)
        self._types: dict[type, str] = {}
        self._made: dict[str, list[Output]] = {}
        self._emitters: list[tuple[Callable[..., Iterable[Output]], Callable[..., None]]] = []
        self._own_keys: dict[bytes | None, bool] = {}
        self._evolve, self._decide = application.evolve, application.decide

    # --- the leader's way -------------------------------------------------------------------

    def decide(self, runs: Iterable[Run], time: int) -> tuple[Outcome[E], ...]:
        """Decide source records in order; the machine is then ahead of the journal.

        Returns the items of an entry's batch. Raises `ApplicationFaulty`.
        """
        context = Context(time=time, shard=self.place.shard)
        self._begin_batch()
        decide_one, items = self._decide_one, []
        for topic, records in runs:
            for record in records:
                items.append(decide_one(topic, record, context))
            self.sources[topic] = records[-1][0] + 1
        self._fill_outboxes()
        return tuple(items)

    def _decide_one(self, topic: str, record: SourceRecord, context: Context) -> Outcome[E]:
        try:
            command: C = self._decode(record[2])  # type: ignore[arg-type] # None: TypeError
        except (msgspec.DecodeError, UnicodeDecodeError, TypeError) as error:
            return self._poison(topic, record, context, INVALID, str(error))
        if self._sharded and not self._is_own(record[1]):
            return self._poison(topic, record, context, WRONG_SHARD, "key of another shard")
        context.id = command_id = command.id
        first = self.window.get(command_id)
        if first is not None:
            return self._repeat(first, context)
        try:
            decided = self._decide(self.state, command, context)
            events = None if type(decided) is Rejected else tuple(decided)  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001 - whatever user code raises rejects the command
            return self._poison(topic, record, context, FAILED, f"{type(error).__name__}: {error}")
        reason = decided.reason if type(decided) is Rejected else None
        tag = self._types.get(type(command)) or self._tag(type(command))
        outcome: Outcome[E] = Outcome(command_id, tag, events, reason)
        self._take_effect(outcome, context)
        return outcome

    def _poison(
        self, topic: str, record: SourceRecord, context: Context, reason: str, error: str
    ) -> Outcome[E]:
        """Reject what cannot be decided. Without a usable id its place in the source is its id."""
        offset, _, value, _ = record
        command_id, command_type = self._name(value or b"")
        if not command_id:
            command_id = f"{topic}/{self.place.shard}@{offset}"
        first = self.window.get(command_id)
        if first is not None:
            return self._repeat(first, context)
        text = (value or b"").decode("utf-8", "replace")[:DEAD_VALUE_CHARACTERS]
        letter = DeadLetter(topic, offset, error, text)
        outcome: Outcome[E] = Outcome(command_id, command_type, rejected=reason, dead_letter=letter)
        self._take_effect(outcome, context)
        return outcome

    def _name(self, value: bytes) -> tuple[str | None, str | None]:
        try:
            envelope = self._envelope.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None, None
        usable = len(envelope.id) <= MAX_ID_LENGTH
        kind = envelope.type
        return envelope.id if usable else None, kind if kind and len(kind) <= 64 else None

    def _repeat(self, first: Outcome[E], context: Context) -> Outcome[E]:
        self._emit(_as_replayed(first), context)
        return Outcome(first.id, replayed=True)

    def _is_own(self, key: bytes | None) -> bool:
        """Whether the key's shard is this one; the last few answers are remembered."""
        own = self._own_keys.get(key)
        if own is None:
            if len(self._own_keys) > 10_000:
                self._own_keys.clear()
            place = self.place
            own = shard_of(DEFAULT_KEY if key is None else key, place.shards) == place.shard
            self._own_keys[key] = own
        return own

    def _tag(self, command_type: type) -> str:
        tag = str(command_type.__struct_config__.tag)  # type: ignore[attr-defined]
        self._types[command_type] = tag
        return tag

    # --- everybody else's way ---------------------------------------------------------------

    def apply(self, entry: Entry[E]) -> None:
        """Apply an accepted entry that another incarnation decided. Raises `ApplicationFaulty`."""
        context = Context(time=entry.time, shard=self.place.shard)
        self._begin_batch()
        for item in entry.batch:
            if item.replayed:
                first = self.window.get(item.id)
                if first is None:
                    raise ApplicationFaulty(
                        f"seq {entry.seq}: a repeat of {item.id}, which is not in the dedupe "
                        "window; POSTJOURNAL_DEDUPE_WINDOW must be the same on all replicas"
                    )
                self._emit(_as_replayed(first), context)
            else:
                self._take_effect(item, context)
        self._fill_outboxes()
        self.sources.update(entry.sources)
        self._check_sinks(entry)

    def _check_sinks(self, entry: Entry[E]) -> None:
        ends = self.sink_ends()
        if ends != entry.sinks:
            raise ApplicationFaulty(
                f"seq {entry.seq}: the sinks end at {ends} here and at {entry.sinks} on the "
                "leader; are all replicas of one version, and the application's sinks pure?"
            )

    # --- both -------------------------------------------------------------------------------

    def sink_ends(self) -> dict[str, int]:
        """Sink → next sequence."""
        return {sink: outbox.next_seq for sink, outbox in self.outboxes.items()}

    def forget(self, published: dict[str, int]) -> None:
        """Drop outputs that are known to be in their topics."""
        for sink, next_seq in published.items():
            outbox = self.outboxes.get(sink)
            if outbox is not None:
                outbox.forget(next_seq)

    def _begin_batch(self) -> None:
        self._made = {sink: [] for sink in self.outboxes}
        self._emitters = [(outputs, self._made[sink].extend) for sink, outputs in self._sinks]

    def _take_effect(self, outcome: Outcome[E], context: Context) -> None:
        if outcome.events:
            evolve, state = self._evolve, self.state
            try:
                for event in outcome.events:
                    evolve(state, event)
            except Exception as error:
                raise ApplicationFaulty(f"evolve failed at command {outcome.id}") from error
        self.window.add(outcome)
        self._emit(outcome, context)

    def _emit(self, outcome: Outcome[E], context: Context) -> None:
        state = self.state
        context.id = outcome.id
        try:
            for outputs, take in self._emitters:
                take(outputs(outcome, context, state))
        except Exception as error:
            raise ApplicationFaulty(f"a sink failed at command {outcome.id}") from error
        if outcome.dead_letter is not None:
            self._made[DEADLETTER].append(self._dead_letter(outcome, outcome.dead_letter, context))

    def _dead_letter(
        self, outcome: Outcome[E], letter: DeadLetter, context: Context
    ) -> DeadLetterOutput:
        return DeadLetterOutput(
            id=outcome.id,
            topic=letter.topic,
            partition=self.place.shard,
            offset=letter.offset,
            reason=outcome.rejected,
            error=letter.error,
            value=letter.value,
            time=context.time,
        )

    def _fill_outboxes(self) -> None:
        for sink, outputs in self._made.items():
            self.outboxes[sink].add(outputs)


def _as_replayed(first: Outcome[E]) -> Outcome[E]:
    return Outcome(first.id, first.type, first.events, first.rejected, replayed=True)
