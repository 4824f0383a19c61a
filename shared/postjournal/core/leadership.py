"""One leadership: what only a leader has, from its accepted claim until something ends it.

A leader decides ahead of the journal: `InFlight` are its own records not yet read back. Nothing
leaves the process, neither an output nor an answer, before what it depends on is read back.
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
from postjournal.core.records import Codec, Entry, Heartbeat, Outcome, Record, Resign, SourceRecord
from postjournal.core.state.outbox import Publication
from postjournal.core.state.state_machine import StateMachine

S = TypeVar("S")
C = TypeVar("C", bound=Command)
E = TypeVar("E")


RELEASE_AT = 0.1
"""Held sources are released when this part of the most is waiting. Seldom held is cheap: a pause
makes librdkafka throw away what it has fetched, some 10,000 records, and fetch it again."""


@dataclass(slots=True)
class InFlight(Generic[E]):
    """An own record, appended and not yet read back. `digest`: after it, if it is an entry."""

    record: Record[E]
    value: bytes
    appended_ms: int
    digest: str | None = None
    sink_ends: dict[str, int] = field(default_factory=dict)
    oldest_ms: int = 0


@dataclass(slots=True)
class _Waiting:
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
    """The leader's side of a replica. Methods return effects or append to `effects`."""

    def __init__(
        self,
        machine: StateMachine[S, C, E],
        codec: Codec[E],
        journal: JournalState,
        limits: Limits,
        now_ms: int,
    ) -> None:
        """Begins where the accepted journal ends."""
        self.epoch = journal.epoch
        self.inflight: deque[InFlight[E]] = deque()
        self.closing: Closing | None = None
        self.resigned = False
        self.is_held = False  # decide nothing for a moment
        self._machine, self._codec, self._limits = machine, codec, limits
        self._digest, self._next_seq = journal.digest, journal.next_seq
        self._publications = {
            sink: Publication(outbox, journal.published.get(sink, 0))
            for sink, outbox in machine.outboxes.items()
        }
        self._pending: deque[m.SourceRecords] = deque()
        self._pending_commands = self._pending_bytes = 0
        self._wanted = dict(machine.sources)
        self._held = False
        self._waiting: deque[_Waiting] = deque()
        self._appended = self._acknowledged = self._read_back = 0
        # At once: it tells everybody, and its read-back makes librdkafka fetch the sources, which
        # were resumed while a fetch without them was waiting at the broker.
        self._heartbeat_due_ms = now_ms
        self._heartbeat_time = 0  # of the last one
        self._unread_since_ms: int | None = None
        self._ahead: dict[str, int] = {}  # sinks whose topic is ahead of what we have read
        self._ahead_probe = 0  # number of the probe that asks for the journal's end after that
        self._ahead_proof: int | None = None  # its answer

    # --- sources in, entries out ------------------------------------------------------------

    def enqueue(self, arrived: m.SourceRecords) -> list[m.Effect]:
        """Queue source records; the sources are held when enough are waiting."""
        topic, records = arrived.topic, arrived.records
        wanted = self._wanted.get(topic, 0)
        if records[0][0] < wanted:  # delivered again
            records = [record for record in records if record[0] >= wanted]
        if not records:
            return []
        self._wanted[topic] = records[-1][0] + 1
        self._pending.append(m.SourceRecords(topic, arrived.time_ms, records))
        self._pending_commands += len(records)
        self._pending_bytes += _size(records)
        if self._held or not self._is_crowded(1.0):
            return []
        self._held = True
        return [m.PauseSources()]

    def _is_crowded(self, part: float) -> bool:
        """Whether that part of what may wait is waiting."""
        limits = self._limits
        return (
            self._pending_commands >= limits.pending_commands * part
            or self._pending_bytes >= limits.pending_bytes * part
        )

    def advance(self, now_ms: int, wall_ms: int) -> list[m.Effect]:
        """Decide one entry if there may be one, show life when it is due, resign when all is done.

        One, so that it is on its way, to the standbys too, before the next is decided.
        """
        effects: list[m.Effect] = []
        if self.may_decide():
            effects.append(self._decide(now_ms, wall_ms))
        if self._held and not self._is_crowded(RELEASE_AT):
            self._held = False
            effects.append(m.ResumeSources())
        if self.closing is not None and not self.resigned and self._may_resign(now_ms):
            effects.append(self._resign(self.closing.successor, now_ms))
        elif self._must_show_life(now_ms):
            effects.append(self._heartbeat(now_ms, wall_ms))
        return effects

    def may_decide(self) -> bool:
        """Whether `advance` would decide an entry."""
        limits, ahead = self._limits, len(self.inflight)
        if not self._pending or self.closing is not None or self.is_held:
            return False
        if ahead and (ahead >= limits.pipeline_entries or not self.is_behind):
            return False
        return all(
            publication.backlog < limits.unpublished_outputs
            for publication in self._publications.values()
        )

    @property
    def is_behind(self) -> bool:
        """Whether as many commands wait as make a further entry worth while."""
        return self._pending_commands >= self._limits.pipeline_commands

    def _decide(self, now_ms: int, wall_ms: int) -> m.Append:
        taken = self._next_batch()
        machine = self._machine
        runs = [(each.topic, each.records) for each in taken]
        batch = machine.decide(runs, wall_ms, self._limits.entry_bytes)
        self._put_back(taken, len(batch))
        entry = Entry(
            epoch=self.epoch,
            seq=self._next_seq,
            batch=batch,
            sources=dict(machine.sources),
            sinks=machine.sink_ends(),
            published=self._published(),
            time=wall_ms,
            digest_before=self._digest,
        )
        value = self._codec.encode(entry)
        self._next_seq += len(batch)
        self._digest = next_digest(self._digest, value)
        oldest_ms = min(each.time_ms for each in taken)
        return self._append(InFlight(entry, value, now_ms, self._digest, entry.sinks, oldest_ms))

    def _next_batch(self) -> list[m.SourceRecords]:
        """Up to `batch_commands` source records, and up to `batch_bytes` if more than one."""
        limits = self._limits
        batch: list[m.SourceRecords] = []
        room, room_bytes = limits.batch_commands, limits.batch_bytes
        while self._pending and room > 0:
            waiting = self._pending.popleft()
            taken = waiting.records[:room]
            size = _size(taken)
            if size > room_bytes:
                taken = _prefix_within(taken, room_bytes, at_least=0 if batch else 1)
                room, size = len(taken), _size(taken)  # full
            if len(taken) < len(waiting.records):
                waiting.records = waiting.records[len(taken) :]
                self._pending.appendleft(waiting)
            if taken:
                batch.append(m.SourceRecords(waiting.topic, waiting.time_ms, taken))
            room -= len(taken)
            room_bytes -= size
            self._pending_bytes -= size
        self._pending_commands -= sum(len(each.records) for each in batch)
        return batch

    def _put_back(self, taken: list[m.SourceRecords], decided: int) -> None:
        """What the entry had no room for waits first in the queue again."""
        left = sum([len(each.records) for each in taken]) - decided
        for each in reversed(taken):
            if left <= 0:
                return
            rest = each.records[-left:]
            self._pending.appendleft(m.SourceRecords(each.topic, each.time_ms, rest))
            self._pending_commands += len(rest)
            self._pending_bytes += _size(rest)
            left -= len(rest)

    def _append(self, own: InFlight[E]) -> m.Append:
        self.inflight.append(own)
        self._appended += 1
        self._heartbeat_due_ms = own.appended_ms + self._limits.heartbeat_ms
        return m.Append(own.value)

    def _must_show_life(self, now_ms: int) -> bool:
        """Never while an own record is not read back: that one has to show life (design, 2)."""
        if self.inflight or self.resigned:
            return False
        return bool(self._waiting) or now_ms >= self._heartbeat_due_ms

    def _heartbeat(self, now_ms: int, wall_ms: int) -> m.Append:
        """Its time is later than that of the one before, so that no two are equal: else one that
        landed twice would pass for the read-back of a later one, and free stale answers."""
        self._heartbeat_time = max(wall_ms, self._heartbeat_time + 1)
        record = Heartbeat(self.epoch, self._next_seq, self._published(), self._heartbeat_time)
        return self._append(InFlight(record, self._codec.encode(record), now_ms))

    def _published(self) -> dict[str, int]:
        return {sink: each.acknowledged for sink, each in self._publications.items()}

    # --- read-back --------------------------------------------------------------------------

    def recognize(self, value: bytes) -> InFlight[E] | None:
        """The own record in flight that `value` is, or None."""
        for own in self.inflight:
            if own.value == value:
                return own
        return None

    def on_stable(self, own: InFlight[E], now_ms: int) -> list[m.Effect]:
        """An own record was read back accepted: its outputs and the answers it holds may go."""
        effects: list[m.Effect] = []
        self._settle(own)
        for sink, end in own.sink_ends.items():
            chunks = self._publications[sink].advance(end)
            effects += [m.Publish(sink, outputs) for outputs in chunks]
        if type(own.record) is Entry:
            effects.append(_stable_entry(own, own.record.batch, now_ms))
        effects += self._release_answers()
        return effects

    def _settle(self, own: InFlight[E]) -> None:
        """Heartbeats before it that never landed are settled too: this record stands for them."""
        self._unread_since_ms = None
        while True:
            settled = self.inflight.popleft()
            self._read_back += 1
            if settled is own:
                return
            assert type(settled.record) is Heartbeat, "the fold accepts no entry over a gap"

    def on_acknowledged(self, count: int) -> None:
        """Acknowledgements of own records; they may come after the read-back."""
        self._acknowledged += count

    def readback_stalled(self, now_ms: int) -> bool:
        """Own records landed and nothing of them was read back for `readback_ms`.

        While the broker is away nothing lands; then there is nobody to resign to, and a change
        of leader would be needless: standbys that do reach the journal claim by themselves.
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

        Then this leader is deposed and does not know it yet, or the topic is not this journal's:
        `check_ahead` tells, once the journal is read up to an end asked for after the tail.
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
        """Only one that was asked for after a sink's tail was found ahead proves anything: an
        earlier one may be late, and may not count what a successor has appended since."""
        if not self._ahead or answer.token != (self.epoch, self._ahead_probe):
            return []
        self._ahead_proof = answer.end
        return self._ask_end() if answer.end is None else []

    def check_ahead(self, position: int) -> None:
        """Raises `SinkAhead` when all of the journal is read and does not explain a sink's tail."""
        if not self._ahead or self._ahead_proof is None or position < self._ahead_proof:
            return
        sink, tail = next(iter(self._ahead.items()))
        raise SinkAhead(
            f"sink {sink}: its topic's last record has seq {tail - 1}, but the journal explains "
            f"only {self._publications[sink].stable}; was the journal's topic made anew? Move "
            "the sink's topic away, or restore the journal"
        )

    def on_published(self, published: m.Published) -> list[m.Effect]:
        """The contiguous acknowledged prefix has grown."""
        chunks = self._publications[published.sink].on_acknowledged(published.next_seq)
        return [m.Publish(published.sink, outputs) for outputs in chunks]

    def on_publish_failed(self, sink: str) -> list[m.Effect]:
        """Purge, a new producer, read the tail again, go on."""
        self._publications[sink].reopen()
        self._ahead.pop(sink, None)
        return [m.OpenSink(sink)]

    # --- reads ------------------------------------------------------------------------------

    def answer_later(self, token: Any, result: object, *, linearizable: bool) -> list[m.Effect]:
        """Hold an answer from the decided state until that state is stable.

        `linearizable`: until a record appended after this call is read back as well.
        """
        own_records = self._appended + (1 if linearizable else 0)
        self._waiting.append(_Waiting(own_records, token, result, self._next_seq - 1))
        return self._release_answers()

    def _release_answers(self) -> list[m.Effect]:
        effects: list[m.Effect] = []
        waiting = self._waiting
        while waiting and waiting[0].own_records <= self._read_back:
            held = waiting.popleft()
            effects.append(m.Reply(held.token, held.result, held.seq, self.epoch))
        return effects

    def refuse_answers(self) -> list[m.Effect]:
        """Leadership ended: nobody may trust an answer that was held."""
        return [m.Reply(held.token, None, -1, self.epoch, "not_leader") for held in self._waiting]

    # --- the end ----------------------------------------------------------------------------

    def close(self, successor: str | None, now_ms: int) -> None:
        """Decide no more; resign when all is read back and published, or `resign_ms` is over."""
        if self.closing is None:
            self.closing = Closing(successor, now_ms + self._limits.resign_ms)

    def resign_at_once(self, now_ms: int) -> m.Append:
        """Tell everybody, whatever is in flight."""
        return self._resign(None, now_ms)

    def _may_resign(self, now_ms: int) -> bool:
        assert self.closing is not None
        done = not self.inflight and all(each.complete for each in self._publications.values())
        return done or now_ms >= self.closing.deadline_ms

    def _resign(self, successor: str | None, now_ms: int) -> m.Append:
        self.resigned = True
        record = Resign(self.epoch, successor)
        return self._append(InFlight(record, self._codec.encode(record), now_ms))


def _size(records: list[SourceRecord]) -> int:
    """Bytes."""
    return sum([len(value or b"") for _, _, value in records])


def _prefix_within(
    records: list[SourceRecord], room_bytes: int, at_least: int
) -> list[SourceRecord]:
    taken = 0
    for record in records:
        room_bytes -= len(record[2] or b"")
        if room_bytes < 0 and taken >= at_least:
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
