"""A replica of one shard: every role and every transition.

    restoring ──► catching_up ──► standby ◄──────────────┐
                                  │    ▲ void claim,      │ leadership ended,
                        suspicion │    │ leader lives     │ nothing undecided
                                  ▼    │                  │
                                 claiming ──► leader ──► resigning
                                   own claim     │          │
                                   accepted      ▼          ▼
                                             rebuilding (a new incarnation follows)

What ends leadership: an accepted claim of another, an own record read back void with a gap, a
failed append, own records that land and are not read back, a resignation of its epoch, an accepted
entry that it has not written. Never a void record of somebody else. `step` is the only way in; the
order of effects is the contract.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from postjournal.core import messages as m
from postjournal.core.application import Application, Command
from postjournal.core.fold import JournalState, Verdict, check_readable
from postjournal.core.leadership import InFlight, Leadership
from postjournal.core.limits import Limits
from postjournal.core.reads import Reads
from postjournal.core.records import Claim, Codec, Entry, Record, Resign, kind_of
from postjournal.core.roles import Cause, Identity, Role
from postjournal.core.snapshot.image import Image, record_digest
from postjournal.core.snapshotting import SnapshotTaker
from postjournal.core.state.state_machine import StateMachine

S = TypeVar("S")
C = TypeVar("C", bound=Command)
E = TypeVar("E")


@dataclass(slots=True)
class _Suspicion:
    cause: Cause
    since_ms: int
    last_sign_of_life_ms: int  # when the old leader was last heard of
    previous: str | None


class Replica(Generic[S, C, E]):
    """The pure engine of one shard. Times are integers in ms."""

    def __init__(
        self,
        identity: Identity,
        application: Application[S, C, E],
        limits: Limits,
    ) -> None:
        """A replica that has read nothing."""
        self.identity = identity
        self.role = Role.RESTORING
        self.journal = JournalState()
        self.machine: StateMachine[S, C, E] = StateMachine(
            application, identity.place, limits.dedupe_window
        )
        self.position = 0  # the offset of the next journal record to read
        self.leadership: Leadership[S, C, E] | None = None
        self._limits = limits
        self._codec: Codec[E] = Codec(application.event_type)
        self._effects: list[m.Effect] = []
        self._now_ms = self._wall_ms = 0
        self.target: int | None = None  # of catching up
        self._last_sign_of_life_ms = 0  # when the leader's last accepted record was read
        self._tripwire_fired_ms: int | None = None
        self._suspicion: _Suspicion | None = None
        self._broker_unavailable = False
        self._silence_confirmed = False
        self._probe_due_ms = 0
        self._claimed_ms = 0
        self._takeover: tuple[_Suspicion, int] | None = None
        self._stop_deadline_ms: int | None = None
        self._is_open = False  # the journal is being read
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
            m.HandoverRequested: self._on_handover,
            m.StopRequested: self._on_stop,
            m.QueryRequested: lambda e: self._effects.extend(self._reads.on_query(e, self._now_ms)),
            m.Restored: self._on_restored,
            m.JournalTrimmed: self._on_trimmed,
            m.SnapshotRequested: self._on_snapshot_asked,
            m.SnapshotProgressed: lambda e: self._effects.extend(
                self._snapshot_taker.on_progressed(e)
            ),
            m.Tick: lambda _: None,
        }

    @property
    def incarnation(self) -> str:
        """This replica's unique id."""
        return self.identity.incarnation

    @property
    def is_busy(self) -> bool:
        """Whether the next step, whatever its message, decides commands."""
        return self.leadership is not None and self.leadership.may_decide()

    @property
    def is_behind(self) -> bool:
        """Whether more commands come than a leader decides."""
        return self.leadership is not None and self.leadership.is_behind

    def start(self, now_ms: int, wall_ms: int) -> list[m.Effect]:
        """The first effects."""
        self._begin(now_ms, wall_ms)
        self._become(Role.RESTORING, "started")
        self._effects.append(m.Restore())
        return self._effects

    def step(self, message: m.Message, now_ms: int, wall_ms: int) -> list[m.Effect]:
        """Take in one message; returns what to do, in order. Raises `ShardHalted`."""
        self._begin(now_ms, wall_ms)
        if self.role not in (Role.REBUILDING, Role.STOPPED):
            self._handlers[type(message)](message)
            if self._reads:
                self._effects += self._reads.settle(now_ms)
            self._act()
        return self._effects

    def _begin(self, now_ms: int, wall_ms: int) -> None:
        self._effects = []
        self._now_ms, self._wall_ms = now_ms, wall_ms

    # --- snapshots --------------------------------------------------------------------------

    def _on_restored(self, message: m.Restored) -> None:
        image = message.image
        if image is not None:
            self.journal, self.machine = image.journal, image.machine
            self.position = image.offset + 1
            self._restored_digest = image.record_digest
        self._is_open = True
        self._probe()  # first: on Kafka's one connection it would wait for a fetch to end
        self._effects.append(m.OpenJournal(self.position))

    def image(self) -> Image[S, C, E]:
        """The state now, which is that of an offset unless own entries are in flight."""
        last = self._last_value
        digest = self._restored_digest if last is None else record_digest(last)
        return Image(self.position - 1, digest, self.journal, self.machine)

    def _on_snapshot_asked(self, message: m.SnapshotRequested) -> None:
        self._effects += self._snapshot_taker.on_asked(message, self.role.value, self._now_ms)

    def _on_trimmed(self, message: m.JournalTrimmed) -> None:
        del message
        if self.leadership is not None:
            self._end_leadership("the journal was trimmed")
        if self.role not in (Role.REBUILDING, Role.STOPPED):
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
            if self.role in (Role.REBUILDING, Role.STOPPED):
                return  # the rest is for the next incarnation

    def _on_accepted(self, record: Record[E], own: InFlight[E] | None) -> None:
        if type(record) is Claim:
            self._on_new_leader(record)
            return
        self._leader_lives()
        if type(record) is Resign:
            if self.leadership is not None:
                self._end_leadership("resigned")
            return
        if own is not None:
            assert self.leadership is not None
            self._effects += self.leadership.on_stable(own, self._now_ms)
            self._report_takeover()
        elif type(record) is Entry:
            if self.leadership is not None:  # forged, but it counts: what is in flight fits no more
                self._end_leadership("somebody else's entry was accepted")
                if self.role is not Role.STANDBY:
                    return
            self.machine.apply(record)
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
        elif own is not None:  # one that lands again is in flight no more
            self._end_leadership(f"own {kind} at offset {offset} is void")

    def _on_new_leader(self, claim: Claim) -> None:
        suspicion, self._suspicion = self._suspicion, None
        was_claiming = self.role is Role.CLAIMING
        self._tripwire_fired_ms, self._silence_confirmed = None, False
        self._broker_unavailable = False
        self._last_sign_of_life_ms = self._now_ms
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
            self._effects.append(m.WatchLeader(claim.address, claim.epoch))

    def _leader_lives(self) -> None:
        """The leader's last record was read just now. Suspicion ends, unless a tripwire fired
        so shortly before that the record was in flight when the process died."""
        self._last_sign_of_life_ms = self._now_ms
        if self.leadership is not None:
            return
        self._broker_unavailable = self._silence_confirmed = False
        tripped_ms = self._tripwire_fired_ms
        if tripped_ms is not None:
            if self._now_ms - tripped_ms < self._limits.tripwire_grace_ms:
                return
            self._tripwire_fired_ms = None
            self._watch()
        if self.journal.resigned or self._suspicion is None:
            return
        self._suspicion = None
        if self.role is Role.CLAIMING:
            self._effects.append(m.PurgeClaims())
            self._become(Role.STANDBY, "the leader lives")

    # --- roles ------------------------------------------------------------------------------

    def _become(self, role: Role, reason: str) -> None:
        self.role = role
        self._effects.append(m.RoleChanged(role.value, self.journal.epoch, reason))
        if role in (Role.REBUILDING, Role.STOPPED):
            self._effects += self._reads.refuse_all()

    def _act(self) -> None:
        """What the role has to do whatever the message was: level-triggered duties."""
        if self._stop_deadline_ms is not None and self._now_ms >= self._stop_deadline_ms:
            self._stop()
        elif self.leadership is not None:
            self._act_as_leader(self.leadership)
        elif self.role in (Role.STANDBY, Role.CLAIMING):
            self._act_as_standby()
        elif self.role is Role.CATCHING_UP:
            self._act_catching_up()
        elif self.role is Role.RESTORING and self._is_open and self._now_ms >= self._probe_due_ms:
            self._probe()

    def _act_as_leader(self, leadership: Leadership[S, C, E]) -> None:
        leadership.check_ahead(self.position)
        if leadership.readback_stalled(self._now_ms):
            self._effects.append(leadership.resign_at_once(self._now_ms))
            self._end_leadership("own records land and are not read back")
            return
        if self._snapshot_taker.is_waiting:
            taken = self._snapshot_taker.advance(self._now_ms, is_quiet=not leadership.inflight)
            leadership.is_held = self._snapshot_taker.is_waiting
            if taken:  # and carried out before anything else is decided
                self._effects += taken
                return
        self._effects += leadership.advance(self._now_ms, self._wall_ms)

    def _act_catching_up(self) -> None:
        assert self.target is not None
        if self.position >= self.target:
            self._last_sign_of_life_ms = self._now_ms
            self._become(Role.STANDBY, "caught up")
            self._watch()
            self._act_as_standby()

    def _act_as_standby(self) -> None:
        cause = self._find_cause()
        if cause is None:
            return
        if self._suspicion is None or self._suspicion.cause is not cause:
            self._suspect(cause)
        if self.role is Role.CLAIMING:
            if self._now_ms - self._claimed_ms < self._limits.claim_retry_ms:
                return
            self._silence_confirmed = False
            self._become(Role.STANDBY, "claim lost")
        if cause is not Cause.SILENCE or self._silence_confirmed:
            self._claim()
        elif self._now_ms >= self._probe_due_ms:
            self._probe()

    def _find_cause(self) -> Cause | None:
        journal, limits = self.journal, self._limits
        silent_ms = self._now_ms - self._last_sign_of_life_ms
        if journal.leader is None:
            return Cause.NO_LEADER
        if journal.resigned:
            return Cause.RESIGNED if silent_ms >= self._claim_backoff_ms() else None
        if self._tripwire_fired_ms is not None:
            return Cause.TRIPWIRE
        return Cause.SILENCE if silent_ms >= limits.silence_ms else None

    def _claim_backoff_ms(self) -> int:
        """How long to leave a vacant leadership to others."""
        if self.journal.leader == self.incarnation:
            return self._limits.silence_ms  # we have just resigned it
        if self.journal.successor in (None, self.identity.replica):
            return 0
        return self._limits.successor_grace_ms

    def _suspect(self, cause: Cause) -> None:
        claim = self.journal.claim
        self._suspicion = _Suspicion(
            cause, self._now_ms, self._last_sign_of_life_ms, claim.replica if claim else None
        )

    def _claim(self) -> None:
        self._claimed_ms = self._now_ms
        self._silence_confirmed = False
        identity = self.identity
        claim = Claim(
            epoch=self.journal.epoch + 1,
            replica=identity.replica,
            incarnation=identity.incarnation,
            address=identity.address,
            seen=self.position - 1,
        )
        assert self._suspicion is not None
        self._become(Role.CLAIMING, self._suspicion.cause.value)
        self._effects.append(m.AppendClaim(self._codec.encode(claim)))

    def _lead(self, suspicion: _Suspicion | None) -> None:
        self.leadership = Leadership(
            self.machine, self._codec, self.journal, self._limits, self._now_ms
        )
        self._takeover = (suspicion, self._now_ms) if suspicion else None
        # Sources first, then the heartbeat: its read-back makes librdkafka's next fetch include
        # them. Telling people comes last.
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
            self._last_sign_of_life_ms = self._now_ms
            self._effects.append(m.ForgetAppends())
            self._become(Role.STANDBY, reason)

    def _stop(self) -> None:
        self._become(Role.STOPPED, "asked to stop")
        self._effects.append(m.Stopped())

    def _report_takeover(self) -> None:
        if self._takeover is None:
            return
        (suspicion, led_ms), self._takeover = self._takeover, None
        self._effects.append(
            m.TookOver(
                epoch=self.journal.epoch,
                previous=suspicion.previous,
                cause=suspicion.cause.value,
                detect_ms=suspicion.since_ms - suspicion.last_sign_of_life_ms,
                claim_ms=led_ms - suspicion.since_ms,
                resume_ms=self._now_ms - led_ms,
            )
        )

    def _watch(self) -> None:
        claim = self.journal.claim
        if claim is not None and not self.journal.resigned:
            self._effects.append(m.WatchLeader(claim.address, claim.epoch))

    def _probe(self) -> None:
        self._probe_due_ms = self._now_ms + self._limits.probe_retry_ms
        self._effects.append(m.ProbeEnd())

    # --- what the world says ----------------------------------------------------------------

    def _on_journal_end(self, message: m.JournalEnd) -> None:
        end = message.end
        if self.leadership is not None:
            self._effects += self.leadership.on_journal_end(message)
        elif self.role is Role.RESTORING:
            if end is not None:
                self.target = end
                self._become(Role.CATCHING_UP, f"the journal ends at offset {end}")
        elif self.role in (Role.STANDBY, Role.CLAIMING):
            self._on_probed(end)

    def _on_probed(self, end: int | None) -> None:
        """A silent leader is suspected only where the journal itself answers, and is all read."""
        if end is None:
            self._broker_unavailable = True
        elif self._broker_unavailable:
            self._broker_unavailable = False
            self._last_sign_of_life_ms = self._now_ms  # the leader gets the same time to come back
        elif end <= self.position:
            self._silence_confirmed = True

    def _on_tripwire(self, message: m.TripwireFired) -> None:
        if message.epoch == self.journal.epoch and self.leadership is None:
            self._tripwire_fired_ms = self._now_ms

    def _on_sources(self, message: m.SourceRecords) -> None:
        if self.leadership is not None:
            self._effects += self.leadership.enqueue(message)

    def _on_acknowledged(self, message: m.AppendAcknowledged) -> None:
        if self.leadership is not None:
            self.leadership.on_acknowledged(message.count)

    def _on_append_failed(self, message: m.AppendFailed) -> None:
        if self.leadership is not None:
            self._end_leadership(f"an append failed: {message.error}")

    def _on_sink_tail(self, message: m.SinkTail) -> None:
        if self.leadership is not None:
            self._effects += self.leadership.on_tail(message)

    def _on_published(self, message: m.Published) -> None:
        if self.leadership is not None:
            self._effects += self.leadership.on_published(message)

    def _on_publish_failed(self, message: m.PublishFailed) -> None:
        if self.leadership is not None:
            self._effects += self.leadership.on_publish_failed(message.sink)

    def _on_handover(self, message: m.HandoverRequested) -> None:
        if self.leadership is not None and message.successor != self.identity.replica:
            self._resign_when_done(message.successor)

    def _on_stop(self, message: m.StopRequested) -> None:
        del message
        if self.leadership is None:
            self._stop()
        elif self._stop_deadline_ms is None:
            self._stop_deadline_ms = self._now_ms + self._limits.stop_ms
            self._resign_when_done(None)

    def _resign_when_done(self, successor: str | None) -> None:
        assert self.leadership is not None
        self.leadership.close(successor, self._now_ms)
        self._become(Role.RESIGNING, "asked to")
