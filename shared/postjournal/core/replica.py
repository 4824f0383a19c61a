"""A replica of one shard: every role and every transition.

    restoring    -> catching_up   the journal's end is known
    catching_up  -> standby       the journal has been read up to that end
    catching_up  -> reader        the same, for a read-only replica (`reader.py`)
    standby      -> claiming      the leader is suspected or has resigned, or there is none
    standby      -> leader        a claim that was given up as lost is accepted after all
    claiming     -> standby       the claim is void or lost, another is first, the leader lives
    claiming     -> leader        the claim was read back accepted
    leader       -> resigning     a handover or a stop was requested
    leader       -> standby       leadership ended with no entry unconfirmed
    resigning    -> standby       the same
    any          -> rebuilding    leadership ended with an entry unconfirmed, or the journal was
                                  trimmed: a new incarnation follows in the same process
    any          -> stopped       a stop was requested
    any          -> halted        `step` raised `ShardHalted`

What ends leadership: an accepted claim of another incarnation, an own record read back void, a
failed append, own records that are acknowledged and not read back, a resignation of its epoch, an
accepted entry that it has not written. Never a void record of another incarnation
(docs/protocol.md). `step` is the only way in; the order of effects is the contract.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from postjournal.core import messages as m
from postjournal.core.application import Application, Command
from postjournal.core.fold import JournalState, Verdict, check_readable
from postjournal.core.leadership import InFlight, Leadership
from postjournal.core.limits import Limits
from postjournal.core.liveness.failure_detector import FailureDetector, Suspicion
from postjournal.core.liveness.impairment import Impairment
from postjournal.core.reads import Reads
from postjournal.core.records import Claim, Codec, Entry, Record, Resign, kind_of
from postjournal.core.roles import Identity, Role, check_transition
from postjournal.core.snapshot.image import Image, record_digest
from postjournal.core.snapshotting import SnapshotTaker
from postjournal.core.state.apply_guard import ApplyGuard
from postjournal.core.state.state_machine import StateMachine

S = TypeVar("S")
C = TypeVar("C", bound=Command)
E = TypeVar("E")


class Replica(Generic[S, C, E]):
    """The pure engine of one shard. Times are integers in ms.

    `position`: the offset of the next journal record to read; `target`: the journal's end that a
    replica catches up to, None until it is known; `leadership`: None unless this replica leads.
    """

    def __init__(
        self,
        identity: Identity,
        application: Application[S, C, E],
        limits: Limits,
        guard: ApplyGuard | None = None,
        impairment: Impairment | None = None,
    ) -> None:
        """`guard`, `impairment`: the same for all incarnations; None: new ones."""
        self.identity = identity
        self.role = Role.RESTORING
        self.journal = JournalState()
        self.machine: StateMachine[S, C, E]
        self.machine = StateMachine(application, identity.place, limits.dedupe_window)
        self.position = 0
        self.target: int | None = None
        self.leadership: Leadership[S, C, E] | None = None
        self._limits = limits
        self._guard = guard or ApplyGuard()
        self._codec: Codec[E] = Codec(application.event_type)
        self._effects: list[m.Effect] = []
        self._now_ms = self._wall_ms = 0
        self._impairment = impairment or Impairment()
        self._detector = FailureDetector(identity, limits)
        self._takeover: tuple[Suspicion, int] | None = None  # and when leadership began
        self._stop_deadline_ms: int | None = None
        self._journal_is_open = False
        self._last_value: bytes | None = None  # of the journal's records
        self._restored_digest = ""  # of the record at which the snapshot was taken
        self._snapshot_taker = SnapshotTaker(identity.replica, self.image, limits.snapshot_wait_ms)
        self._reads = Reads(self)
        self._handlers: dict[type, Callable[[Any], None]] = {
            m.JournalRecords: self._on_journal,
            m.SourceRecords: self._on_sources,
            m.AppendAcknowledged: self._on_acknowledged,
            m.AppendFailed: self._on_append_failed,
            m.JournalEnd: self._on_journal_end,
            m.TripwireFired: self._on_tripwire,
            m.SinkTail: self._on_sink_tail,
            m.Published: self._on_published,
            m.PublishFailed: self._on_publish_failed,
            m.SourceStalled: self._on_source_stalled,
            m.HandoverRequested: self._on_handover,
            m.StopRequested: self._on_stop,
            m.QueryRequested: self._on_query,
            m.Restored: self._on_restored,
            m.JournalTrimmed: self._on_trimmed,
            m.SnapshotRequested: self._on_snapshot_requested,
            m.SnapshotProgressed: self._on_snapshot_progressed,
            m.Tick: lambda _: None,
        }

    @property
    def incarnation(self) -> str:
        return self.identity.incarnation

    @property
    def impaired_reason(self) -> str | None:
        """Why a leadership of this replica made no progress; None when none did, or it does."""
        return self._impairment.reason

    @property
    def is_busy(self) -> bool:
        """Whether the next step, whatever its message, decides commands."""
        return self.leadership is not None and self.leadership.may_decide()

    @property
    def is_behind(self) -> bool:
        """Whether commands arrive faster than this leader decides them."""
        return self.leadership is not None and self.leadership.is_behind

    def next_due_ms(self, now_ms: int) -> int | None:
        """When `step` has something to do although no message arrives; None: never.

        `now_ms`: as of `start`. A duty that is not listed here would wait for the next message.
        """
        due_ms = [self._stop_deadline_ms, self._reads.deadline_ms]
        if self.leadership is not None:
            due_ms += [self.leadership.next_due_ms(now_ms), self._snapshot_taker.deadline_ms]
        elif self.role in (Role.STANDBY, Role.CLAIMING):
            is_claiming = self.role is Role.CLAIMING
            due_ms.append(self._detector.next_due_ms(self.journal, now_ms, is_claiming=is_claiming))
            suspicion = self._detector.suspicion
            if suspicion is not None and (from_ms := self._may_claim_from_ms(suspicion)) > now_ms:
                due_ms.append(from_ms)
        elif self.role is Role.RESTORING and self._journal_is_open:
            due_ms.append(self._detector.probe_due_ms)
        return min([due for due in due_ms if due is not None], default=None)

    def start(self, now_ms: int, wall_ms: int) -> list[m.Effect]:
        """Return the first effects.

        `now_ms`: monotonic clock; `wall_ms`: ms since the Unix epoch, which goes into the journal.
        """
        self._begin(now_ms, wall_ms)
        self._become(Role.RESTORING, "started")
        self._effects.append(m.Restore())
        return self._effects

    def step(self, message: m.Message, now_ms: int, wall_ms: int) -> list[m.Effect]:
        """Process one message; return the effects to carry out, in order.

        The clocks are those of `start`. Raises `ShardHalted` when the shard must not go on.
        """
        self._begin(now_ms, wall_ms)
        if not self.role.is_final:
            self._handlers[type(message)](message)
            if self._reads:
                self._effects += self._reads.settle(now_ms)
            self._act()
        return self._effects

    def _begin(self, now_ms: int, wall_ms: int) -> None:
        self._effects = []
        self._now_ms, self._wall_ms = now_ms, wall_ms

    # --- snapshots and queries --------------------------------------------------------------

    def _on_restored(self, message: m.Restored) -> None:
        image = message.image
        if image is not None:
            self.journal, self.machine = image.journal, image.machine
            self.position = image.offset + 1
            self._restored_digest = image.record_digest
        self._journal_is_open = True
        # The probe first: behind a fetch on Kafka's one connection it would wait for records.
        self._probe_if_due()
        self._effects.append(m.OpenJournal(self.position))

    def image(self) -> Image[S, C, E]:
        """The current state; it belongs to an offset unless own entries are in flight."""
        last = self._last_value
        digest = self._restored_digest if last is None else record_digest(last)
        return Image(self.position - 1, digest, self.journal, self.machine)

    def _on_snapshot_requested(self, message: m.SnapshotRequested) -> None:
        self._effects += self._snapshot_taker.on_requested(message, self.role, self._now_ms)

    def _on_snapshot_progressed(self, message: m.SnapshotProgressed) -> None:
        self._effects += self._snapshot_taker.on_progressed(message)

    def _on_query(self, message: m.QueryRequested) -> None:
        self._effects += self._reads.on_query(message, self._now_ms)

    def _on_trimmed(self, message: m.JournalTrimmed) -> None:
        del message
        if self.leadership is not None:
            self._end_leadership("the journal was trimmed")
        if not self.role.is_final:
            self._rebuild("the journal was trimmed")

    def _rebuild(self, reason: str) -> None:
        self._become(Role.REBUILDING, reason)
        self._effects.append(m.Rebuild())

    # --- reading the journal ----------------------------------------------------------------

    def _on_journal(self, message: m.JournalRecords) -> None:
        for offset, value in message.records:
            assert offset >= self.position, "the journal is read in order"
            self.position = offset + 1
            self._last_value = value
            own = self.leadership.recognize(value) if self.leadership else None
            record = own.record if own else self._codec.decode(value)
            verdict = self.journal.fold(offset, record, value, own.digest if own else None)
            if verdict is Verdict.ACCEPTED:
                self._on_accepted(record, own)
            else:
                self._on_void(offset, record, own, verdict)
            if self.role.is_final:
                return  # the rest is for the next incarnation

    def _on_accepted(self, record: Record[E], own: InFlight[E] | None) -> None:
        if type(record) is Claim:
            self._on_new_leader(record)
            return
        self._on_sign_of_life()
        if type(record) is Resign:
            if self.leadership is not None:
                self._end_leadership("resigned")
            return
        if own is not None:
            assert self.leadership is not None
            self._effects += self.leadership.on_stable(own, self._now_ms)
            self._report_takeover()
        elif type(record) is Entry:
            if self.leadership is not None:  # forged, but accepted: own entries no longer fit
                self._end_leadership("an entry that this leader has not written was accepted")
                if self.role is not Role.STANDBY:
                    return
            self._guard.apply(self.machine, self.position - 1, record)
        self.machine.forget(self.journal.published)

    def _on_void(
        self, offset: int, record: Record[E], own: InFlight[E] | None, verdict: Verdict
    ) -> None:
        check_readable(offset, record, verdict)
        kind = kind_of(record)
        self._effects.append(m.RecordVoid(kind, offset, verdict is Verdict.DIGEST_MISMATCH))
        if type(record) is Claim and record.incarnation == self.incarnation:
            if self.role is Role.CLAIMING:
                self._become(Role.STANDBY, "claim void")
        elif own is not None:  # a record that was appended twice is no longer in flight
            self._end_leadership(f"own {kind} at offset {offset} is void")

    def _on_new_leader(self, claim: Claim) -> None:
        suspicion = self._detector.on_new_leader(self._now_ms)
        was_claiming = self.role is Role.CLAIMING
        if self.leadership is not None:
            self._end_leadership(f"{claim.replica} leads epoch {claim.epoch}")
            if self.role is not Role.STANDBY:
                return
        if claim.incarnation == self.incarnation:
            self._lead(suspicion)
            return
        if was_claiming:
            self._effects.append(m.PurgeClaims())
            self._become(Role.STANDBY, f"{claim.replica} claimed first")
        if self.role is Role.STANDBY:
            self._effects.append(m.WatchLeader(claim.address, claim.incarnation, claim.epoch))

    def _on_sign_of_life(self) -> None:
        sign = self._detector.on_sign_of_life(self._now_ms, resigned=self.journal.resigned)
        if sign.rearm_tripwire:
            self._watch()
        if sign.ends_suspicion and self.role is Role.CLAIMING:
            self._effects.append(m.PurgeClaims())
            self._become(Role.STANDBY, "the leader lives")

    # --- roles ------------------------------------------------------------------------------

    def _become(self, role: Role, reason: str) -> None:
        self.role = check_transition(self.role, role)
        self._effects.append(m.RoleChanged(role, self.journal.epoch, reason))
        if role.is_final:
            self._effects += self._reads.refuse_all()

    def _act(self) -> None:
        """The duties of the role, whatever the message was: level-triggered."""
        if self._stop_deadline_ms is not None and self._now_ms >= self._stop_deadline_ms:
            self._stop()
        elif self.leadership is not None:
            self._act_as_leader(self.leadership)
        elif self.role in (Role.STANDBY, Role.CLAIMING):
            self._act_as_standby()
        elif self.role is Role.CATCHING_UP:
            self._act_catching_up()
        elif self.role is Role.RESTORING and self._journal_is_open:
            self._probe_if_due()

    def _act_as_leader(self, leadership: Leadership[S, C, E]) -> None:
        leadership.check_ahead(self.position)
        if leadership.readback_stalled(self._now_ms):
            self._effects.append(leadership.resign_at_once(self._now_ms))
            self._end_leadership("own records are acknowledged and not read back")
            return
        stall = leadership.check_progress(self._now_ms)
        if stall is not None:
            self._effects.append(m.Impaired(stall))
            self._resign_when_done(None, f"no progress: {stall}")
        if self._snapshot_taker.is_waiting:
            effects = self._snapshot_taker.advance(self._now_ms, is_quiet=not leadership.inflight)
            leadership.decisions_paused = self._snapshot_taker.is_waiting
            if effects:  # carried out before anything else is decided
                self._effects += effects
                return
        self._effects += leadership.advance(self._now_ms, self._wall_ms)

    def _act_catching_up(self) -> None:
        assert self.target is not None
        if self.position >= self.target:
            self._detector.restart_silence(self._now_ms)
            self._become(Role.STANDBY, "caught up")
            self._watch()
            self._act_as_standby()

    def _act_as_standby(self) -> None:
        suspicion = self._detector.check(self.journal, self._now_ms)
        if suspicion is None:
            return
        if self.role is Role.CLAIMING:
            if not self._detector.is_claim_lost(self._now_ms):
                return
            self._become(Role.STANDBY, "claim lost")
        waits = self._now_ms < self._may_claim_from_ms(suspicion)
        if self._detector.may_claim(suspicion) and not waits:
            self._claim(suspicion)
        else:
            self._probe_if_due()

    def _may_claim_from_ms(self, suspicion: Suspicion) -> int:
        """An impaired replica is the last to claim, unless the leader has named it."""
        is_named = self.journal.resigned and self.journal.successor == self.identity.replica
        if is_named or self._impairment.reason is None:
            return suspicion.since_ms
        grace_ms = self._limits.impaired_grace_ms * self._impairment.weight
        grace_ends_ms = suspicion.since_ms + grace_ms
        return min(grace_ends_ms, self._impairment.until_ms)

    def _claim(self, suspicion: Suspicion) -> None:
        self._detector.on_claimed(self._now_ms)
        identity = self.identity
        claim = Claim(
            epoch=self.journal.epoch + 1,
            replica=identity.replica,
            incarnation=identity.incarnation,
            address=identity.address,
            seen=self.position - 1,
        )
        self._become(Role.CLAIMING, suspicion.cause.value)
        self._effects.append(m.AppendClaim(self._codec.encode(claim)))

    def _lead(self, suspicion: Suspicion | None) -> None:
        self.leadership = Leadership(
            self.machine,
            self._codec,
            self.journal,
            self._limits,
            impairment=self._impairment,
            now_ms=self._now_ms,
        )
        self._takeover = (suspicion, self._now_ms) if suspicion else None
        # Sources first, then the heartbeat: its read-back makes librdkafka's next fetch include
        # them. Observers come last.
        self._effects.append(m.OpenSources(dict(self.machine.sources)))
        self._effects += [m.OpenSink(sink) for sink in self.machine.outboxes]
        self._effects += self.leadership.advance(self._now_ms, self._wall_ms)
        self._effects.append(m.UnwatchLeader())
        self._become(Role.LEADER, "claim accepted")

    def _end_leadership(self, reason: str) -> None:
        leadership, self.leadership = self.leadership, None
        assert leadership is not None
        self._takeover = None
        self._effects += [m.CloseSources(), m.CloseSinks(), *leadership.refuse_answers()]
        self._effects += self._snapshot_taker.refuse("leadership ended")
        if self._stop_deadline_ms is not None:
            self._stop()
        elif leadership.has_unconfirmed_entries:
            self._rebuild(reason)
        else:
            self._detector.restart_silence(self._now_ms)
            self._effects.append(m.ForgetAppends())
            self._become(Role.STANDBY, reason)

    def _stop(self) -> None:
        self._become(Role.STOPPED, "stop requested")
        self._effects.append(m.Stopped())

    def _report_takeover(self) -> None:
        if self._takeover is None:
            return
        (suspicion, began_ms), self._takeover = self._takeover, None
        self._effects.append(
            m.TookOver(
                epoch=self.journal.epoch,
                previous=suspicion.previous,
                cause=suspicion.cause,
                detect_ms=suspicion.since_ms - suspicion.last_sign_of_life_ms,
                claim_ms=began_ms - suspicion.since_ms,
                resume_ms=self._now_ms - began_ms,
            )
        )

    def _watch(self) -> None:
        claim = self.journal.claim
        if claim is not None and not self.journal.resigned:
            self._effects.append(m.WatchLeader(claim.address, claim.incarnation, claim.epoch))

    def _probe_if_due(self) -> None:
        if self._detector.take_probe(self._now_ms):
            self._effects.append(m.ProbeEnd())

    # --- messages from the ports ------------------------------------------------------------

    def _on_journal_end(self, message: m.JournalEnd) -> None:
        if self.leadership is not None:
            self._effects += self.leadership.on_journal_end(message)
        elif self.role is Role.RESTORING:
            if message.end is not None:
                self.target = message.end
                self._become(Role.CATCHING_UP, f"the journal ends at offset {message.end}")
        elif self.role in (Role.STANDBY, Role.CLAIMING):
            self._detector.on_journal_end(message.end, self.position, self._now_ms)

    def _on_tripwire(self, message: m.TripwireFired) -> None:
        if message.epoch == self.journal.epoch and self.leadership is None:
            self._detector.on_tripwire(self._now_ms)

    def _on_sources(self, message: m.SourceRecords) -> None:
        if self.leadership is not None:
            self._effects += self.leadership.enqueue(message)

    def _on_acknowledged(self, message: m.AppendAcknowledged) -> None:
        if self.leadership is not None:
            self.leadership.on_acknowledged(message.count)

    def _on_append_failed(self, message: m.AppendFailed) -> None:
        if self.leadership is None:
            return
        if message.is_refused:
            reason = f"the journal refuses a record: {message.error}"
            self._impairment.begin(reason, self._now_ms, self._limits.impaired_ms)
            self._effects.append(m.Impaired(reason))
        self._end_leadership(f"an append failed: {message.error}")

    def _on_sink_tail(self, message: m.SinkTail) -> None:
        if self.leadership is not None:
            self._effects += self.leadership.on_tail(message)

    def _on_published(self, message: m.Published) -> None:
        if self.leadership is not None:
            self._effects += self.leadership.on_published(message, self._now_ms)

    def _on_publish_failed(self, message: m.PublishFailed) -> None:
        if self.leadership is not None:
            self._effects += self.leadership.on_publish_failed(message.sink)

    def _on_source_stalled(self, message: m.SourceStalled) -> None:
        if self.leadership is not None:
            self.leadership.stalls.on_source(message.topic, message.reason)

    def _on_handover(self, message: m.HandoverRequested) -> None:
        if self.leadership is not None and message.successor != self.identity.replica:
            self._resign_when_done(message.successor, "handover requested")

    def _on_stop(self, message: m.StopRequested) -> None:
        del message
        if self.leadership is None:
            self._stop()
        elif self._stop_deadline_ms is None:
            self._stop_deadline_ms = self._now_ms + self._limits.stop_ms
            self._resign_when_done(None, "stop requested")

    def _resign_when_done(self, successor: str | None, reason: str) -> None:
        assert self.leadership is not None
        self.leadership.close(successor, self._now_ms)
        self._become(Role.RESIGNING, reason)
