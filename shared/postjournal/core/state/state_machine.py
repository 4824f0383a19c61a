"""The state machine of one shard: a leader decides commands, other replicas apply entries.

Both ways lead to the same state, dedupe window, positions and outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import msgspec

from postjournal.core.application import Application, Command, Context, Output, Rejected
from postjournal.core.errors import ApplicationFaulty
from postjournal.core.limits import ENTRY_BYTES
from postjournal.core.records import (
    MAX_ID_LENGTH,
    UNREADABLE,
    DeadLetter,
    Entry,
    Outcome,
    SourceRecord,
)
from postjournal.core.sharding import DEFAULT_KEY, ShardPlace, shard_of
from postjournal.core.state.dedupe import DedupeWindow
from postjournal.core.state.outbox import Outbox, Outputs
from postjournal.core.state.round_trip import EventRoundTrip

S = TypeVar("S")
C = TypeVar("C", bound=Command)
E = TypeVar("E")

Run: TypeAlias = tuple[str, list[SourceRecord]]
"""Consecutive records of one source topic."""

DEADLETTER = "deadletter"
"""The engine's own sink: one record for each command that could not be decided."""

INVALID, WRONG_SHARD, FAILED = "invalid", "wrong_shard", "failed"
"""The engine's own reasons: not decodable; the key of another shard; `decide` raised."""

EXCERPT_CHARACTERS = 1024
"""The bound for the command and the error in a dead letter."""

REASON_CHARACTERS = 64

OUTCOME_BYTES, DEAD_LETTER_BYTES = 1_200, 14_000
"""The most that an outcome takes besides its events: id, type, reason; with a dead letter."""


MAX_FAILURES = 10
"""Kept between two calls of `StateMachine.take_failures`: more are of no use in a log."""


class DeadLetterOutput(Output, gc=False, kw_only=True):
    """A record of the dead-letter topic: the position of the command, and what was wrong."""

    id: str
    topic: str
    partition: int
    offset: int
    reason: str | None
    error: str
    value: str
    time: int


class _Envelope(msgspec.Struct):
    """The fields that are read of a command that is otherwise invalid."""

    id: str = ""
    type: str | None = None


class FailedDecision(NamedTuple):
    """`decide` raised at the command `id`, the record of `topic` at `offset`."""

    id: str
    topic: str
    offset: int
    error: Exception


class StateMachine(Generic[S, C, E]):
    """All that a snapshot contains besides the fold's state.

    A new one has the application's initial state. `sources`: topic → next offset;
    `outboxes`: sink → its outputs that are not known to be published. `other_sinks`: next
    sequences of sinks that leaders of other releases have, and this application has not.
    """

    def __init__(
        self, application: Application[S, C, E], place: ShardPlace, dedupe_window: int
    ) -> None:
        self.place = place
        self._sharded = place.shards > 1
        self.state = application.initial_state()
        self.window: DedupeWindow[E] = DedupeWindow(dedupe_window)
        self.sources: dict[str, int] = {}
        self.outboxes = {sink: Outbox(sink) for sink in (*application.sinks, DEADLETTER)}
        self.other_sinks: dict[str, int] = {}
        self.application = application
        self._sinks: dict[str, Callable[[Sequence[Outcome[E]], Context], list[Output]]]
        self._sinks = {sink: partial(_each, make) for sink, make in application.sinks.items()}
        self._sinks[DEADLETTER] = self._dead_letters
        self._decode = msgspec.json.Decoder(application.command_type).decode
        self._encoder = msgspec.json.Encoder()
        self._envelope = msgspec.json.Decoder(_Envelope)
        self._event_round_trip: EventRoundTrip[E] = EventRoundTrip(application.event_type)
        self._types: dict[type, str] = {}
        self._own_keys: dict[bytes | None, bool] = {}
        self._evolve, self._decide = application.evolve, application.decide
        self._failures: list[FailedDecision] = []

    # --- the leader -------------------------------------------------------------------------

    def decide(
        self, runs: Iterable[Run], time: int, left_bytes: int = ENTRY_BYTES
    ) -> tuple[Outcome[E], ...]:
        """Decide source records in order; the machine is then ahead of the journal.

        Returns the items of an entry's batch, one for each record: of all, or of as many from the
        first on as fit into `left_bytes`, at least one. Raises `ApplicationFaulty`.
        """
        context = Context(time=time, shard=self.place.shard)
        outcomes: list[Outcome[E]] = []
        for topic, records in runs:
            if left_bytes <= 0:
                break
            before = len(outcomes)
            left_bytes = self._decide_run(topic, records, context, outcomes, left_bytes)
            self.sources[topic] = records[len(outcomes) - before - 1][0] + 1
        for sink, outbox in self.outboxes.items():
            outbox.add(self._make(sink, outcomes, time, outbox.next_seq))
        return tuple([_as_item(one) if one.replayed else one for one in outcomes])

    def take_failures(self) -> list[FailedDecision]:
        """The first ones of `decide` since the last call."""
        if not self._failures:
            return []
        failures, self._failures = self._failures, []
        return failures

    def _decide_run(
        self,
        topic: str,
        records: list[SourceRecord],
        context: Context,
        into: list[Outcome[E]],
        left_bytes: int,
    ) -> int:
        """The hot loop: local names for all that a command needs, and few calls.

        `left_bytes`: bytes that the entry still takes; returns what is left of it.
        """
        decode, decide, evolve, state = self._decode, self._decide, self._evolve, self.state
        recall, remember, types = self.window.get, self.window.add, self._types
        round_trip, sharded = self._event_round_trip.round_trip, self._sharded
        for record in records:
            if left_bytes <= 0:
                break
            left_bytes -= OUTCOME_BYTES
            try:
                command: C = decode(record[2])  # type: ignore[arg-type] # None: TypeError
            except (*UNREADABLE, TypeError) as error:
                into.append(self._poison(topic, record, INVALID, str(error)))
                left_bytes -= DEAD_LETTER_BYTES
                continue
            if sharded and not self._is_own(record[1]):
                into.append(self._poison(topic, record, WRONG_SHARD, "key of another shard"))
                left_bytes -= DEAD_LETTER_BYTES
                continue
            context.id = command_id = command.id
            first = recall(command_id)
            if first is not None:
                into.append(_as_replayed(first))
                continue
            reason: str | None = None
            events: tuple[E, ...] | None = None
            try:
                decided = decide(state, command, context)
                if type(decided) is Rejected:
                    reason = _checked(decided.reason)
                else:
                    events, size = round_trip(tuple(decided))  # type: ignore[arg-type]
                    left_bytes -= size
            except Exception as error:  # noqa: BLE001 - whatever user code raises rejects
                into.append(self._failed(topic, record, command_id, error))
                left_bytes -= DEAD_LETTER_BYTES
                continue
            kind = type(command)
            outcome = Outcome(command_id, types.get(kind) or self._tag(kind), events, reason)
            try:
                for event in events or ():
                    evolve(state, event)
            except Exception as error:
                raise _evolve_failed(outcome, error) from error
            remember(outcome)
            into.append(outcome)
        return left_bytes

    def _failed(
        self, topic: str, record: SourceRecord, command_id: str, error: Exception
    ) -> Outcome[E]:
        if len(self._failures) < MAX_FAILURES:
            self._failures.append(FailedDecision(command_id, topic, record[0], error))
        return self._poison(topic, record, FAILED, f"{type(error).__name__}: {error}")

    def _poison(self, topic: str, record: SourceRecord, reason: str, error: str) -> Outcome[E]:
        """Reject what cannot be decided; without a usable id, its source position is its id."""
        offset, _, value = record
        command_id, command_type = self._id_and_type(value or b"")
        if not command_id:
            command_id = f"{topic}/{self.place.shard}@{offset}"
        first = self.window.get(command_id)
        if first is not None:
            return _as_replayed(first)
        excerpt = _excerpt(error.encode(errors="replace"))
        letter = DeadLetter(topic, offset, excerpt, _excerpt(value))
        outcome: Outcome[E] = Outcome(command_id, command_type, rejected=reason, dead_letter=letter)
        self.window.add(outcome)
        return outcome

    def _id_and_type(self, value: bytes) -> tuple[str | None, str | None]:
        try:
            envelope = self._envelope.decode(value)
        except UNREADABLE:
            return None, None
        is_usable = len(envelope.id) <= MAX_ID_LENGTH
        kind = envelope.type
        return envelope.id if is_usable else None, kind if kind and len(kind) <= 64 else None

    def _is_own(self, key: bytes | None) -> bool:
        """Whether the key's shard is this one; recent answers are cached."""
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

    # --- the other replicas -----------------------------------------------------------------

    def apply(self, entry: Entry[E]) -> None:
        """Apply an accepted entry that another incarnation decided. Raises `ApplicationFaulty`.

        Its outputs are created only if this replica has to publish them.
        """
        outcomes = self._evolve_all(entry)
        self.sources.update(entry.sources)
        for sink, outbox in self.outboxes.items():
            end = entry.sinks.get(sink, outbox.next_seq)  # a leader may not have this sink yet
            if end < outbox.next_seq:
                raise ApplicationFaulty(
                    f"seq {entry.seq}: sink {sink} ends at {end}, before {outbox.next_seq}. Do all "
                    "replicas run the same version?"
                )
            outbox.add_later(end, partial(self._make, sink, outcomes, entry.time))
        if entry.sinks.keys() != self.outboxes.keys():
            others = entry.sinks.keys() - self.outboxes.keys()
            self.other_sinks.update({sink: entry.sinks[sink] for sink in others})

    def apply_first(self, entry: Entry[E], count: int) -> None:
        """Apply only the first `count` commands of an entry, for the state in its middle."""
        self._evolve_all(msgspec.structs.replace(entry, batch=entry.batch[:count]))

    def _evolve_all(self, entry: Entry[E]) -> Sequence[Outcome[E]]:
        """Evolve the state, add the outcomes to the window; return the outcomes for sinks."""
        evolve, state, window, batch = self._evolve, self.state, self.window, entry.batch
        replays: list[tuple[int, Outcome[E]]] = []
        added = 0  # of the batch
        for position, item in enumerate(batch):
            try:
                for event in item.events or ():
                    evolve(state, event)
            except Exception as error:
                raise _evolve_failed(item, error) from error
            if item.replayed:
                window.add_all(batch[added:position])
                added = position + 1
                replays.append((position, self._first_outcome(item, entry.seq + position)))
        window.add_all(batch[added:])
        if not replays:
            return batch
        outcomes = list(batch)
        for position, outcome in replays:
            outcomes[position] = outcome
        return outcomes

    def _first_outcome(self, item: Outcome[E], seq: int) -> Outcome[E]:
        first = self.window.get(item.id)
        if first is None:
            raise ApplicationFaulty(
                f"seq {seq}: {item.id} is a repeat, but not in the dedupe window; set "
                "POSTJOURNAL_DEDUPE_WINDOW to the same value on all replicas"
            )
        return _as_replayed(first)

    # --- both -------------------------------------------------------------------------------

    def query(self, query: Mapping[str, str]) -> tuple[msgspec.Raw | None, str | None]:
        """Return the application's answer as JSON, or the error: a read must not stop the shard.

        It is encoded here, since it may be a part of the state, which goes on changing.
        """
        try:
            result = self.application.query(self.state, query)
            return None if result is None else msgspec.Raw(self._encoder.encode(result)), None
        except Exception as error:  # noqa: BLE001 - user code
            return None, f"failed: {type(error).__name__}: {error}"

    def sink_ends(self) -> dict[str, int]:
        """Return sink → next sequence."""
        return {sink: outbox.next_seq for sink, outbox in self.outboxes.items()}

    def forget(self, published: dict[str, int]) -> None:
        """Drop the outputs below the marks `published`: sink → first unpublished sequence."""
        for sink, next_seq in published.items():
            outbox = self.outboxes.get(sink)
            if outbox is not None:
                outbox.forget(next_seq)

    def _make(self, sink: str, outcomes: Sequence[Outcome[E]], time: int, first: int) -> Outputs:
        """Create the outputs of one entry for `sink`, numbered from `first` and encoded."""
        context = Context(time=time, shard=self.place.shard)
        try:
            made = self._sinks[sink](outcomes, context)
            for seq, output in enumerate(made, first):
                output.seq = seq
            return Outputs(first, self._encode_all(made))
        except MemoryError:
            raise
        except Exception as error:
            raise ApplicationFaulty(
                f"sink {sink} failed: {type(error).__name__}: {error}"
            ) from error

    def _encode_all(self, outputs: list[Output]) -> list[bytes]:
        """Encode all outputs with one call, which is faster than one call for each."""
        if not outputs:
            return []
        values = self._encoder.encode_lines(outputs)[:-1].split(b"\n")
        if len(values) != len(outputs):  # a `msgspec.Raw` contains a line break
            return [self._encoder.encode(output) for output in outputs]
        return values

    def _dead_letters(self, outcomes: Sequence[Outcome[E]], context: Context) -> list[Output]:
        return [
            DeadLetterOutput(
                id=outcome.id,
                topic=outcome.dead_letter.topic,
                partition=context.shard,
                offset=outcome.dead_letter.offset,
                reason=outcome.rejected,
                error=outcome.dead_letter.error,
                value=outcome.dead_letter.value,
                time=context.time,
            )
            for outcome in outcomes
            if outcome.dead_letter is not None
        ]


def _each(
    sink: Callable[[Outcome[E], Context], Iterable[Output]],
    outcomes: Sequence[Outcome[E]],
    context: Context,
) -> list[Output]:
    return [output for outcome in outcomes for output in sink(outcome, context)]


def _checked(reason: str) -> str:
    if len(reason) > REASON_CHARACTERS or not reason.isprintable():
        raise ValueError(f"a reason must be at most {REASON_CHARACTERS} printable characters")
    return reason


def _excerpt(text: bytes | None) -> str:
    return (text or b"").decode("utf-8", "replace")[:EXCERPT_CHARACTERS]


def _evolve_failed(outcome: Outcome[E], error: Exception) -> ApplicationFaulty:
    """What halts the shard. A MemoryError is raised again: a restart of the engine helps."""
    if isinstance(error, MemoryError):
        raise error
    return ApplicationFaulty(
        f"evolve failed at command {outcome.id}: {type(error).__name__}: {error}"
    )


def _as_replayed(first: Outcome[E]) -> Outcome[E]:
    """The outcome that sinks receive for a repeat."""
    return Outcome(first.id, first.type, first.events, first.rejected, replayed=True)


def _as_item(repeat: Outcome[E]) -> Outcome[E]:
    """The journal's item for a repeat."""
    return Outcome(repeat.id, replayed=True)
