"""A read-only replica: it follows the journal, up to a bound if it has one, and never claims.

Its transitions are in `replica.py`. At its bound it stops and answers from the state as of then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from postjournal.core import messages as m
from postjournal.core.application import Application, Command
from postjournal.core.fold import JournalState, Verdict, check_readable
from postjournal.core.limits import Limits
from postjournal.core.reads import Reads
from postjournal.core.records import Codec, Entry, kind_of
from postjournal.core.roles import Identity, Role, SnapshotState, check_transition
from postjournal.core.snapshot.manifest import Manifest
from postjournal.core.state.apply_guard import ApplyGuard
from postjournal.core.state.state_machine import StateMachine

S = TypeVar("S")
C = TypeVar("C", bound=Command)
E = TypeVar("E")


@dataclass(frozen=True)
class Bound:
    """How far to read: the first bound that is reached counts; None: no such bound.

    `offset`: of the last journal record; `seq`: of the last command, even if that is in the
    middle of an entry; `time`: before the first entry with a later time, ms since the Unix epoch.
    """

    offset: int | None = None
    seq: int | None = None
    time: int | None = None

    def fits(self, manifest: Manifest) -> bool:
        """Whether a snapshot lies within the bound, so that a replay may start from it."""
        return (
            (self.offset is None or manifest.offset <= self.offset)
            and (self.seq is None or manifest.seq <= self.seq + 1)
            and (self.time is None or manifest.journal_time <= self.time)
        )

    def is_reached(self, position: int, next_seq: int) -> bool:
        """Whether nothing more is to be read; `position`: the offset of the next record."""
        return (self.offset is not None and position > self.offset) or (
            self.seq is not None and next_seq > self.seq
        )


class Reader(Generic[S, C, E]):
    """A read-only counterpart of `replica.Replica`, with the same interface for the runtime.

    Without a bound it follows forever. `is_within_entry`: the bound is in the middle of an entry;
    `set_back_ms`: the most by which an entry's time is before that of an earlier entry.
    """

    def __init__(
        self,
        identity: Identity,
        application: Application[S, C, E],
        limits: Limits,
        bound: Bound | None = None,
        guard: ApplyGuard | None = None,
    ) -> None:
        self.identity, self.bound = identity, bound or Bound()
        self.role = Role.RESTORING
        self.journal = JournalState()
        self.machine: StateMachine[S, C, E]
        self.machine = StateMachine(application, identity.place, limits.dedupe_window)
        self.position = 0
        self.leadership = None
        self.is_busy = self.is_behind = False
        self._stopped_at_bound = False  # in the middle of an entry, or before a later one
        self.is_within_entry = False
        self.set_back_ms = 0
        self._limits = limits
        self._guard = guard or ApplyGuard()
        self._codec: Codec[E] = Codec(application.event_type)
        self._effects: list[m.Effect] = []
        self._now_ms = self._probe_due_ms = 0
        self._is_open = False
        self._reads = Reads(self)
        self.target: int | None = None
        self._handlers: dict[type, Callable[[Any], None]] = {
            m.Restored: self._on_restored,
            m.JournalRecords: self._on_journal,
            m.JournalEnd: self._on_journal_end,
            m.JournalTrimmed: self._on_trimmed,
            m.QueryRequested: lambda e: self._effects.extend(self._reads.on_query(e, self._now_ms)),
            m.StopRequested: self._on_stop,
            m.SnapshotRequested: self._on_snapshot_requested,
        }

    @property
    def incarnation(self) -> str:
        return self.identity.incarnation

    @property
    def is_at_bound(self) -> bool:
        """Whether the bound is reached, so that nothing more is read."""
        return self._stopped_at_bound or self.bound.is_reached(self.position, self.journal.next_seq)

    def next_due_ms(self, now_ms: int) -> int | None:
        """When a step has something to do although no message arrives; None: never."""
        del now_ms
        if self.role is Role.RESTORING and self._is_open:
            return self._probe_due_ms
        return self._reads.deadline_ms

    def start(self, now_ms: int, wall_ms: int) -> list[m.Effect]:
        """Return the first effects; see `Replica.start`."""
        del wall_ms
        self._effects, self._now_ms = [], now_ms
        self._become(Role.RESTORING, "started")
        self._effects.append(m.Restore())
        return self._effects

    def step(self, message: m.Message, now_ms: int, wall_ms: int) -> list[m.Effect]:
        """Process one message; those that do not concern a reader have no effect."""
        del wall_ms
        self._effects, self._now_ms = [], now_ms
        handler = self._handlers.get(type(message))
        if handler is not None and not self.role.is_final:
            handler(message)
        if self._reads:
            self._effects += self._reads.settle(now_ms)
        if self.role is Role.RESTORING and self._is_open and now_ms >= self._probe_due_ms:
            self._probe()
        return self._effects

    def _become(self, role: Role, reason: str) -> None:
        self.role = check_transition(self.role, role)
        self._effects.append(m.RoleChanged(role, self.journal.epoch, reason))
        if role.is_final:
            self._effects += self._reads.refuse_all()

    def _probe(self) -> None:
        self._probe_due_ms = self._now_ms + self._limits.probe_retry_ms
        self._effects.append(m.ProbeEnd())

    # --- reading ----------------------------------------------------------------------------

    def _on_restored(self, message: m.Restored) -> None:
        image = message.image
        if image is not None:
            self.journal, self.machine, self.position = (
                image.journal,
                image.machine,
                image.offset + 1,
            )
        self._is_open = True
        self._probe()
        self._effects.append(m.OpenJournal(self.position))

    def _on_journal_end(self, message: m.JournalEnd) -> None:
        if self.target is None and message.end is not None:
            self.target = message.end
            self._become(Role.CATCHING_UP, f"the journal ends at offset {message.end}")
            self._settle()

    def _on_journal(self, message: m.JournalRecords) -> None:
        for offset, value in message.records:
            if self.is_at_bound:
                break
            self._read(offset, value)
        self._settle()

    def _read(self, offset: int, value: bytes) -> None:
        record = self._codec.decode(value)
        if isinstance(record, Entry) and self._ends_within(record):
            self._stop_within(record)
            return
        verdict = self.journal.fold(offset, record, value)
        check_readable(offset, record, verdict)
        self.position = offset + 1
        if verdict is Verdict.ACCEPTED:
            if isinstance(record, Entry):
                self.set_back_ms = max(self.set_back_ms, self.journal.time - record.time)
                self._guard.apply(self.machine, offset, record)
            self.machine.forget(self.journal.published)
        else:
            self._effects.append(
                m.RecordVoid(kind_of(record), offset, verdict is Verdict.DIGEST_MISMATCH)
            )

    def _ends_within(self, entry: Entry[E]) -> bool:
        """Whether the bound is before or within this entry, and the entry would be accepted."""
        bound = self.bound
        is_late = bound.time is not None and entry.time > bound.time
        is_long = bound.seq is not None and entry.seq + len(entry.batch) - 1 > bound.seq
        return (is_late or is_long) and self.journal.would_accept(entry)

    def _stop_within(self, entry: Entry[E]) -> None:
        """Apply commands up to the bound; positions and outputs stay where the entry began."""
        self._stopped_at_bound = True
        if self.bound.time is None or entry.time <= self.bound.time:
            assert self.bound.seq is not None
            count = self.bound.seq + 1 - self.journal.next_seq
            self.machine.apply_first(entry, count)
            self.journal.next_seq += count
            self.is_within_entry = True

    def _settle(self) -> None:
        if self.role is not Role.CATCHING_UP:
            return
        assert self.target is not None
        if self.is_at_bound or self.position >= self.target:
            self._become(Role.READER, "at its bound" if self.is_at_bound else "caught up")

    def _on_trimmed(self, message: m.JournalTrimmed) -> None:
        del message
        self._become(Role.REBUILDING, "the journal was trimmed")
        self._effects.append(m.Rebuild())

    # --- requests ---------------------------------------------------------------------------

    def _on_snapshot_requested(self, message: m.SnapshotRequested) -> None:
        if message.replica == self.identity.replica:
            progress = m.SnapshotProgressed(
                message.snapshot_id,
                message.attempt,
                SnapshotState.FAILED,
                error="this replica is read-only",
            )
            self._effects.append(progress)

    def _on_stop(self, message: m.StopRequested) -> None:
        del message
        self._become(Role.STOPPED, "stop requested")
        self._effects.append(m.Stopped())
