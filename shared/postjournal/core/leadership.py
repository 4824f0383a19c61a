"""One leadership: what only a leader has, from its accepted claim until something ends it.

A leader decides ahead of the journal: `InFlight` are its own records not yet read back. Neither an
output nor an answer leaves the process before the records that it depends on are read back.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from postjournal.core import messages as m
from postjournal.core.application import Command
from postjournal.core.errors import SinkAhead
from postjournal.core.fold import JournalState, next_digest
from postjournal.core.limits import Limits
from postjournal.core.liveness.impairment import Impairment, Stalls
from postjournal.core.records import (
    Codec,
    Entry,
    Heartbeat,
    Outcome,
    Record,
    Resign,
    SourceRecord,
)
from postjournal.core.roles import ReadError
from postjournal.core.state.outbox import Publication
from postjournal.core.state.state_machine import StateMachine

S = TypeVar("S")
C = TypeVar("C", bound=Command)
E = TypeVar("E")


RESUME_AT = 0.1
"""Paused sources are resumed when this part of the bound is pending. Rare pauses are cheap: each
makes librdkafka drop what it has fetched, some 10,000 records, and fetch it again."""


@dataclass(slots=True)
class InFlight(Generic[E]):
    """An own record, appended and not yet read back.

    Of an entry also: `digest` after it; `sink_ends`: sink → next sequence; `oldest_ms`: the
    timestamp with which its commands' delivery began, ms since the Unix epoch.
    """

    record: Record[E]
    value: bytes
    appended_ms: int
    digest: str | None = None
    sink_ends: dict[str, int] = field(default_factory=dict)
    oldest_ms: int = 0


@dataclass(slots=True)
class _PendingAnswer:
    """An answer that may leave once `own_records` of this leadership are read back."""

    own_records: int
    token: Any
    result: object
    seq: int


@dataclass(slots=True)
class Closing:
    """The leader finishes what is in flight until `deadline_ms`, then resigns."""

    successor: str | None
    deadline_ms: int


class Leadership(Generic[S, C, E]):
    """The leader's side of a replica. Methods return effects, in order; times are in ms.

    It begins where the accepted journal ends. `decisions_paused`: set by the replica while a
    snapshot waits for a moment with nothing in flight. `stalls`: to be given SourceStalled.
    """

    def __init__(
        self,
        machine: StateMachine[S, C, E],
        codec: Codec[E],
        journal: JournalState,
        limits: Limits,
        *,
        impairment: Impairment,
        now_ms: int,
    ) -> None:
        self.epoch = journal.epoch
        self.inflight: deque[InFlight[E]] = deque()
        self.closing: Closing | None = None
        self.resigned = False
        self.decisions_paused = False
        self._machine, self._codec, self._limits = machine, codec, limits
        self._digest, self._next_seq = journal.digest, journal.next_seq
        self._publications = {
            sink: Publication(outbox, journal.published.get(sink, 0))
            for sink, outbox in machine.outboxes.items()
        }
        self.stalls = Stalls(limits, impairment, now_ms)
        self._pending: deque[m.SourceRecords] = deque()
        self._pending_commands = self._pending_bytes = 0
        self._next_offsets = dict(machine.sources)
        self._sources_paused = False
        self._pending_answers: deque[_PendingAnswer] = deque()
        self._appended = self._acknowledged = self._read_back = 0
        # Due at once: every replica learns of the leader, and its read-back makes librdkafka fetch
        # the sources, which were resumed while a fetch without them was waiting at the broker.
        self._heartbeat_due_ms = now_ms
        self._heartbeat_time = 0  # of the last one
        self._marks: dict[str, int] = {}  # in the last record: the next release may lack a sink
        self._unread_since_ms: int | None = None
        self._ahead: dict[str, int] = {}  # sink → tail, ahead of what was read back
        self._ahead_probe = 0  # number of the probe sent after that
        self._ahead_proof: int | None = None  # the end that it returned

    # --- sources in, entries out ------------------------------------------------------------

    def enqueue(self, arrived: m.SourceRecords) -> list[m.Effect]:
        """Queue source records; the sources are paused when enough are pending."""
        topic, records = arrived.topic, arrived.records
        next_offset = self._next_offsets.get(topic, 0)
        if records[0][0] < next_offset:  # delivered again
            records = [record for record in records if record[0] >= next_offset]
        if not records:
            return []
        self._next_offsets[topic] = records[-1][0] + 1
        self._pending.append(m.SourceRecords(topic, arrived.time_ms, records))
        self._pending_commands += len(records)
        self._pending_bytes += _size(records)
        if self._sources_paused or not self._exceeds(1.0):
            return []
        self._sources_paused = True
        return [m.PauseSources()]

    def _exceeds(self, part: float) -> bool:
        """Whether at least this part of the bound of pending records is pending."""
        limits = self._limits
        return (
            self._pending_commands >= limits.pending_commands * part
            or self._pending_bytes >= limits.pending_bytes * part
        )

    def advance(self, now_ms: int, wall_ms: int) -> list[m.Effect]:
        """Decide one entry if possible, append a heartbeat if due, resign when all is done.

        One entry, so that it is on its way to the standbys before the next is decided.
        """
        effects: list[m.Effect] = []
        if self.may_decide():
            effects.append(self._decide(now_ms, wall_ms))
            effects += [m.CommandFailed(*failure) for failure in self._machine.take_failures()]
        if self._sources_paused and not self._exceeds(RESUME_AT):
            self._sources_paused = False
            effects.append(m.ResumeSources())
        if self.closing is not None and not self.resigned and self._may_resign(now_ms):
            if not self.inflight and self._published() != self._marks:
                effects.append(self._heartbeat(now_ms, wall_ms))
            effects.append(self._resign(self.closing.successor, now_ms))
        elif self._is_heartbeat_due(now_ms):
            effects.append(self._heartbeat(now_ms, wall_ms))
        return effects

    def may_decide(self) -> bool:
        """Whether `advance` would decide an entry."""
        limits, ahead = self._limits, len(self.inflight)
        if not self._pending or self.closing is not None or self.decisions_paused:
            return False
        if ahead and (ahead >= limits.pipeline_entries or not self.is_behind):
            return False
        return all(
            publication.backlog < limits.unpublished_outputs
            for publication in self._publications.values()
        )

    @property
    def is_behind(self) -> bool:
        """Whether enough commands are pending to make a further entry worthwhile."""
        return self._pending_commands >= self._limits.pipeline_commands

    def _decide(self, now_ms: int, wall_ms: int) -> m.Append:
        taken = self._next_batch()
        machine = self._machine
        runs = [(arrived.topic, arrived.records) for arrived in taken]
        batch = machine.decide(runs, wall_ms, self._limits.entry_bytes)
        self._requeue(taken, len(batch))
        entry = Entry(
            epoch=self.epoch,
            seq=self._next_seq,
            batch=batch,
            sources=dict(machine.sources),
            sinks=machine.sink_ends(),
            published=self._take_marks(),
            time=wall_ms,
            digest_before=self._digest,
        )
        value = self._codec.encode(entry)
        self._next_seq += len(batch)
        self._digest = next_digest(self._digest, value)
        oldest_ms = min(arrived.time_ms for arrived in taken)
        return self._append(InFlight(entry, value, now_ms, self._digest, entry.sinks, oldest_ms))

    def _next_batch(self) -> list[m.SourceRecords]:
        """Up to `batch_commands` source records, and up to `batch_bytes` if more than one."""
        limits = self._limits
        batch: list[m.SourceRecords] = []
        left, left_bytes = limits.batch_commands, limits.batch_bytes
        while self._pending and left > 0:
            waiting = self._pending.popleft()
            taken = waiting.records[:left]
            size = _size(taken)
            if size > left_bytes:
                taken = _prefix_within(taken, left_bytes, at_least=0 if batch else 1)
                left, size = len(taken), _size(taken)  # full
            if len(taken) < len(waiting.records):
                waiting.records = waiting.records[len(taken) :]
                self._pending.appendleft(waiting)
            if taken:
                batch.append(m.SourceRecords(waiting.topic, waiting.time_ms, taken))
            left -= len(taken)
            left_bytes -= size
            self._pending_bytes -= size
        self._pending_commands -= sum(len(arrived.records) for arrived in batch)
        return batch

    def _requeue(self, taken: list[m.SourceRecords], decided: int) -> None:
        """Put what the entry did not take back to the front of the queue."""
        left = sum([len(arrived.records) for arrived in taken]) - decided
        for arrived in reversed(taken):
            if left <= 0:
                return
            rest = arrived.records[-left:]
            self._pending.appendleft(m.SourceRecords(arrived.topic, arrived.time_ms, rest))
            self._pending_commands += len(rest)
            self._pending_bytes += _size(rest)
            left -= len(rest)

    def _append(self, own: InFlight[E]) -> m.Append:
        self.inflight.append(own)
        self._appended += 1
        self._heartbeat_due_ms = own.appended_ms + self._limits.heartbeat_ms
        return m.Append(own.value)

    def _is_heartbeat_due(self, now_ms: int) -> bool:
        """Never while an own record is not read back: else a leader whose entries cannot be
        appended would stay in office forever (docs/protocol.md)."""
        if self.inflight or self.resigned:
            return False
        return bool(self._pending_answers) or now_ms >= self._heartbeat_due_ms

    def _heartbeat(self, now_ms: int, wall_ms: int) -> m.Append:
        """Times rise strictly, so that no two heartbeats are equal: else one that was appended
        twice would pass for the read-back of a later one, and release stale answers."""
        self._heartbeat_time = max(wall_ms, self._heartbeat_time + 1)
        record = Heartbeat(self.epoch, self._next_seq, self._take_marks(), self._heartbeat_time)
        return self._append(InFlight(record, self._codec.encode(record), now_ms))

    def _published(self) -> dict[str, int]:
        return {sink: publication.acknowledged for sink, publication in self._publications.items()}

    def _take_marks(self) -> dict[str, int]:
        self._marks = self._published()
        return self._marks

    def next_due_ms(self, now_ms: int) -> int | None:
        """When something is to be done although nothing arrives; None: never."""
        due_ms: list[int] = []
        if self.closing is not None and not self.resigned:
            due_ms.append(self.closing.deadline_ms)
        if not self.inflight and not self.resigned:
            due_ms.append(now_ms if self._pending_answers else self._heartbeat_due_ms)
        if self._unread_since_ms is not None:
            due_ms.append(self._unread_since_ms + self._limits.readback_ms)
        if self.stalls.due_ms is not None:
            due_ms.append(self.stalls.due_ms)
        return min(due_ms, default=None)

    # --- read-back --------------------------------------------------------------------------

    def recognize(self, value: bytes) -> InFlight[E] | None:
        """The own record in flight whose bytes `value` are, or None."""
        for own in self.inflight:
            if own.value == value:
                return own
        return None

    def on_stable(self, own: InFlight[E], now_ms: int) -> list[m.Effect]:
        """An own record was read back accepted: its outputs and the answers behind it may go."""
        effects: list[m.Effect] = []
        self._settle(own)
        self.stalls.on_read_back(now_ms)
        for sink, end in own.sink_ends.items():
            chunks = self._publications[sink].advance(end)
            effects += [m.Publish(sink, outputs) for outputs in chunks]
        if type(own.record) is Entry:
            effects.append(_stable_entry(own, own.record.batch, now_ms))
        effects += self._release_answers()
        return effects

    def _settle(self, own: InFlight[E]) -> None:
        """Remove `own`, and heartbeats before it that were never appended, from the queue."""
        self._unread_since_ms = None
        while True:
            settled = self.inflight.popleft()
            self._read_back += 1
            if settled is own:
                return
            assert type(settled.record) is Heartbeat, "the fold accepts no entry over a gap"

    def on_acknowledged(self, count: int) -> None:
        """Count acknowledgements of own records; they may come after the read-back."""
        self._acknowledged += count

    def readback_stalled(self, now_ms: int) -> bool:
        """Whether own records are acknowledged and none was read back for `readback_ms`.

        While the broker is unavailable nothing is acknowledged. A resignation would not be
        appended either, and a change of leader would be needless: standbys that do reach the
        journal claim without one.
        """
        if self._acknowledged <= self._read_back:
            self._unread_since_ms = None
            return False
        if self._unread_since_ms is None:
            self._unread_since_ms = now_ms
        return now_ms - self._unread_since_ms >= self._limits.readback_ms

    @property
    def has_unconfirmed_entries(self) -> bool:
        """Whether an entry that was decided here has not been read back accepted."""
        return any(type(own.record) is Entry for own in self.inflight)

    # --- publishing -------------------------------------------------------------------------

    def on_tail(self, tail: m.SinkTail) -> list[m.Effect]:
        """Start publishing to the sink, unless its topic is ahead of what has been read back.

        If it is, this leader is deposed and has not read so yet, or the topic belongs to another
        journal: `check_ahead` decides, once the journal is read up to an end that was asked for
        after the tail.
        """
        publication = self._publications[tail.sink]
        if tail.next_seq > publication.stable:
            self._ahead[tail.sink] = tail.next_seq
            return self._ask_end()
        return [m.Publish(tail.sink, outputs) for outputs in publication.opened(tail.next_seq)]

    def _ask_end(self) -> list[m.Effect]:
        self._ahead_probe += 1
        self._ahead_proof = None
        return [m.ProbeEnd((self.epoch, self._ahead_probe))]

    def on_journal_end(self, answer: m.JournalEnd) -> list[m.Effect]:
        """Keep an answer that was asked for after a sink's tail was found ahead.

        An earlier one proves nothing: it may not include what a successor has appended since.
        """
        if not self._ahead or answer.token != (self.epoch, self._ahead_probe):
            return []
        self._ahead_proof = answer.end
        return self._ask_end() if answer.end is None else []

    def check_ahead(self, position: int) -> None:
        """Raise `SinkAhead` if all of the journal is read and does not explain a sink's tail."""
        if not self._ahead or self._ahead_proof is None or position < self._ahead_proof:
            return
        sink, tail = next(iter(self._ahead.items()))
        raise SinkAhead(
            f"sink {sink}: its topic's last record has seq {tail - 1}, but the journal explains "
            f"only {self._publications[sink].stable}. Was the journal's topic recreated? Move the "
            "sink's topic away, or restore the journal"
        )

    def on_published(self, published: m.Published, now_ms: int) -> list[m.Effect]:
        """The contiguous acknowledged prefix of a sink has grown: publish what follows."""
        self.stalls.on_published(published.sink, now_ms)
        chunks = self._publications[published.sink].on_acknowledged(published.next_seq)
        return [m.Publish(published.sink, outputs) for outputs in chunks]

    def on_publish_failed(self, sink: str) -> list[m.Effect]:
        """Restart the sink: a new producer, then the topic's tail again."""
        self._publications[sink].reopen()
        self._ahead.pop(sink, None)
        return [m.OpenSink(sink)]

    def check_progress(self, now_ms: int) -> str | None:
        """Why another replica should lead: a source or a sink makes no progress; or None."""
        return self.stalls.check(self._publications, now_ms)

    # --- reads ------------------------------------------------------------------------------

    def answer_later(self, token: Any, result: object, *, linearizable: bool) -> list[m.Effect]:
        """Keep an answer from the decided state until that state is stable.

        `linearizable`: until a record appended after this call is read back as well.
        """
        own_records = self._appended + (1 if linearizable else 0)
        self._pending_answers.append(_PendingAnswer(own_records, token, result, self._next_seq - 1))
        return self._release_answers()

    def _release_answers(self) -> list[m.Effect]:
        effects: list[m.Effect] = []
        pending = self._pending_answers
        while pending and pending[0].own_records <= self._read_back:
            answer = pending.popleft()
            effects.append(m.Reply(answer.token, answer.result, answer.seq, self.epoch))
        return effects

    def refuse_answers(self) -> list[m.Effect]:
        """Refuse the pending answers: leadership ended before what they reflect was stable."""
        return [
            m.Reply(answer.token, None, -1, self.epoch, ReadError.NOT_LEADER)
            for answer in self._pending_answers
        ]

    # --- the end ----------------------------------------------------------------------------

    def close(self, successor: str | None, now_ms: int) -> None:
        """Decide no more; resign when all is read back and published, or after `resign_ms`."""
        if self.closing is None:
            self.closing = Closing(successor, now_ms + self._limits.resign_ms)

    def resign_at_once(self, now_ms: int) -> m.Append:
        """Append the resignation whatever is in flight."""
        return self._resign(None, now_ms)

    def _may_resign(self, now_ms: int) -> bool:
        assert self.closing is not None
        done = not self.inflight and all(
            publication.complete for publication in self._publications.values()
        )
        return done or now_ms >= self.closing.deadline_ms

    def _resign(self, successor: str | None, now_ms: int) -> m.Append:
        self.resigned = True
        record = Resign(self.epoch, successor)
        return self._append(InFlight(record, self._codec.encode(record), now_ms))


def _size(records: list[SourceRecord]) -> int:
    return sum([len(value or b"") for _, _, value in records])


def _prefix_within(
    records: list[SourceRecord], left_bytes: int, at_least: int
) -> list[SourceRecord]:
    taken = 0
    for record in records:
        left_bytes -= len(record[2] or b"")
        if left_bytes < 0 and taken >= at_least:
            break
        taken += 1
    return records[:taken]


def _stable_entry(own: InFlight[E], batch: tuple[Outcome[E], ...], now_ms: int) -> m.EntryStable:
    replayed = sum(1 for item in batch if item.replayed)
    rejected = sum(1 for item in batch if item.rejected is not None)
    return m.EntryStable(
        commands=len(batch),
        rejected=rejected,
        replayed=replayed,
        append_ms=now_ms - own.appended_ms,
        oldest_ms=own.oldest_ms,
    )
