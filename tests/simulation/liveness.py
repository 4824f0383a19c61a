"""Invariants of liveness: a replica claims, and a leader stops leading, only for a reason.

Safety allows more: a needless claim is void or only moves the leadership. But needless takeovers
make a system useless, and errors in the state of a replica show here first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from postjournal.core import messages as m
from postjournal.core.leadership import Leadership
from postjournal.core.records import Resign
from tests.simulation.invariants import ENDED, must
from tests.simulation.reference import parsed

if TYPE_CHECKING:
    from tests.simulation.invariants import ShardAudit
    from tests.simulation.shard_process import ObservedRuntime, ShardProcess

JOURNAL_GAP_MS = 1_000
"""Without a record that is read back for so long, Kafka itself is unavailable."""

LEADING_ROLES = ("leader", "resigning")


class LivenessInvariants:
    """Records what one shard process received, and when by the host's monotonic clock in ms."""

    def __init__(self, process: ShardProcess) -> None:
        self._process = process
        self._read: list[tuple[int, int]] = []  # (journal position reached, when)
        self._ends: list[tuple[int, int]] = []  # (end of the journal that was reported, when)
        self._fired: list[tuple[int, int]] = []  # (epoch, when its leader's tripwire fired)
        self._role = ""
        self._unread: tuple[tuple[int, int], int] | None = None  # ((epoch, read back), since ms)
        self._own_read_ms: list[int] = []  # when own records of this leadership were read back
        self._stalled: dict[str, int] = {}  # source → when it was last reported to stand still
        self._moved_ms: dict[str, int] = {}  # sink → when it made progress
        self._read_back = (0, 0)  # of the leadership: epoch, own records
        self._step_ms = 0  # when the step under way began
        self._impaired_ms: int | None = None  # when the last impairment began
        self.led_epoch = 0
        self.opened_offset = 0  # where this incarnation began to read the journal

    @property
    def _now_ms(self) -> int:
        return self._process.host.monotonic_ms()

    @property
    def _audit(self) -> ShardAudit:
        return self._process.host.cluster.audit.shards[self._process.topics.shard]

    def on_delivered(self, message: m.Message) -> None:
        """The process receives a message."""
        if type(message) is m.JournalRecords:
            self._read.append((message.records[-1][0] + 1, self._now_ms))
        elif type(message) is m.JournalEnd and message.end is not None:
            self._ends.append((message.end, self._now_ms))
        elif type(message) is m.TripwireFired:
            self._fired.append((message.epoch, self._now_ms))
            if message.epoch < self._process.replica.journal.epoch:
                self._audit.cluster.coverage.hit("tripwires of an earlier leader")
        elif type(message) is m.SinkTail:
            outbox = self._process.replica.machine.outboxes[message.sink]
            if message.next_seq > outbox.next_seq:
                self._audit.cluster.coverage.hit("sinks ahead of the position read")

    def on_open(self, offset: int) -> None:
        """An incarnation starts at `offset`; everything before comes from a snapshot."""
        self.opened_offset = offset
        self._read = [(offset, self._now_ms)]
        self._ends.clear()

    def _read_ms(self, offset: int) -> int:
        """When the record at `offset` was delivered."""
        return next(ms for end, ms in self._read if end > offset)

    # --- impairments ------------------------------------------------------------------------

    def _on_stalled(self, message: m.SourceStalled) -> None:
        if message.reason is None:
            self._stalled.pop(message.topic, None)
        else:
            self._stalled[message.topic] = self._now_ms

    def on_impaired(self, event: m.Impaired) -> None:
        """The leader gives up because of a source or a sink."""
        now_ms, limits = self._now_ms, self._process.host.cluster.profile.limits
        before_ms, self._impaired_ms = self._impaired_ms, now_ms
        if event.reason.startswith("the journal refuses"):
            return
        self._note_read_back()
        self.an_impaired_leader_stays(before_ms, now_ms - limits.impaired_ms)
        kind, topic = event.reason.split(":")[0].split(" ", 1)
        since_ms = self._journal_progresses_since_ms()
        if kind == "source":
            holds = self._stalled.get(topic, -1) >= since_ms
        else:
            moved_ms = max(self._moved_ms.get(topic, 0), since_ms)
            holds = now_ms - moved_ms >= limits.stall_ms
        must(holds, "an_impairment_has_a_reason", "%s, since %d", event.reason, since_ms)

    def an_impaired_leader_stays(self, before_ms: int | None, since_ms: int) -> None:
        """It does not resign a second time so soon: all others have tried."""
        must(
            before_ms is None or before_ms <= since_ms,
            "an_impaired_leader_stays",
            "%s",
            self._process.replica.incarnation,
        )

    def _journal_progresses_since_ms(self) -> int:
        """Since when own records are read back without a gap of a second."""
        now_ms, since_ms = self._now_ms, self._now_ms
        for read_ms in reversed(self._own_read_ms):
            if since_ms - read_ms >= JOURNAL_GAP_MS:
                break
            since_ms = read_ms
        return since_ms if since_ms < now_ms else now_ms + 1

    def an_impaired_replica_claims_last(self, alive_at: int) -> None:
        """Unless the leader has named it, others have had time to claim."""
        replica, limits = self._process.replica, self._process.host.cluster.profile.limits
        began_ms, now_ms = self._impaired_ms, self._now_ms
        journal = replica.journal
        is_named = journal.resigned and journal.successor == replica.identity.replica
        is_over = replica.impaired_reason is None or began_ms is None
        if is_over or now_ms - (began_ms or 0) >= limits.impaired_ms or is_named:
            return
        self._audit.cluster.coverage.hit("claims of an impaired replica")
        vacant_ms = [self._read_ms(alive_at)]
        vacant_ms += [ms for epoch, ms in self._fired if epoch == journal.epoch]
        must(
            now_ms - min(vacant_ms) >= limits.impaired_grace_ms,
            "an_impaired_replica_claims_last",
            "%s",
            replica.incarnation,
        )

    # --- claims -----------------------------------------------------------------------------

    def on_claim(self, value: bytes) -> None:
        """A claim leaves the process."""
        replica, audit = self._process.replica, self._audit
        audit.a_claim_carries_the_last_offset_read(replica.position, value)
        _, leader, alive_at, resigned, *_ = audit.points[replica.position]
        if alive_at >= 0:
            self.an_impaired_replica_claims_last(alive_at)
        if leader is not None and not resigned:
            self.no_claim_against_a_live_leader(parsed(value)["epoch"] - 1, alive_at)

    def no_claim_against_a_live_leader(self, epoch: int, alive_at: int) -> None:
        """Its tripwire fired and no record of it was read afterwards, or it was silent for
        `silence_ms` and the journal's end, requested after that, shows that nothing is unread."""
        limits, now_ms = self._process.host.cluster.profile.limits, self._now_ms
        last_record_ms, position = self._read_ms(alive_at), self._process.replica.position
        latest_ms = self._process.host.resumed_ms  # a paused host processes older messages only now
        tripped = any(
            fired_epoch == epoch and last_record_ms < max(ms, latest_ms) + limits.tripwire_grace_ms
            for fired_epoch, ms in self._fired
        )
        silent = now_ms - last_record_ms >= limits.silence_ms and any(
            end <= position and max(ms, latest_ms) >= last_record_ms for end, ms in self._ends
        )
        must(
            tripped or silent,
            "no_claim_against_a_live_leader",
            "%s: epoch %d, last record at %d, now %d, fired %s, ends %s",
            self._process.replica.incarnation,
            epoch,
            last_record_ms,
            now_ms,
            self._fired,
            self._ends,
        )

    # --- leadership -------------------------------------------------------------------------

    def on_role(self, event: m.RoleChanged) -> None:
        """The replica reports a new role."""
        before, self._role = self._role, event.role
        if event.role == "leader":
            self.led_epoch = event.epoch
            self._own_read_ms = [self._now_ms]
            self._moved_ms.clear()
            self._stalled.clear()
        elif before in LEADING_ROLES and event.role not in LEADING_ROLES:
            self.a_leadership_ends_for_a_reason(event.reason)

    def a_leadership_ends_for_a_reason(self, reason: str) -> None:
        """A void record that another process wrote is not a reason."""
        process, audit, epoch = self._process, self._audit, self.led_epoch
        position = process.replica.position
        point = audit.points[position]
        is_over = point[0] > epoch or point[3]
        has_gap = audit.gaps.get(epoch, position) < position
        has_forged_entry = audit.forged_entries.get(epoch, position) < position
        readback_stalled = audit.last_of_epoch.get(epoch, -1) >= position
        was_trimmed = position < process.topics.journal.begin
        failed = process.log.failed_epoch == epoch
        must(
            is_over
            or has_gap
            or has_forged_entry
            or readback_stalled
            or was_trimmed
            or failed
            or process.host.stopping,
            "a_leadership_ends_for_a_reason",
            "%s, epoch %d, at position %d: %s",
            process.replica.incarnation,
            epoch,
            position,
            reason,
        )

    def after_turn(self) -> None:
        """The process has consumed everything that was delivered."""
        self.a_turn_consumes_all_pending_messages()
        self.a_leader_with_stalled_readback_resigns()

    def before_step(self, message: m.Message) -> None:
        """Notes what sources and sinks do, and the time: a pause may begin within the step."""
        self._step_ms = self._now_ms
        if type(message) is m.SourceStalled:
            self._on_stalled(message)
        elif type(message) is m.Published:
            self._moved_ms[message.sink] = self._now_ms

    def after_step(self) -> None:
        """Notes own records that were read back, and sinks that have nothing to publish."""
        replica = self._process.replica
        leadership = None if replica.role in ENDED else replica.leadership
        if leadership is None:
            return
        now_ms = self._now_ms
        if replica.impaired_reason is None:
            self._impaired_ms = None
        self._note_read_back()
        for sink, publication in leadership._publications.items():
            if publication.complete:
                self._moved_ms[sink] = now_ms
        if self._impairment_lasts(now_ms):
            self._audit.cluster.coverage.hit("impaired leaders that stay")

    def _note_read_back(self) -> None:
        leadership = self._process.replica.leadership
        assert leadership is not None
        if self._read_back != (leadership.epoch, leadership._read_back):
            self._read_back = (leadership.epoch, leadership._read_back)
            self._own_read_ms.append(self._step_ms)

    def _impairment_lasts(self, now_ms: int) -> bool:
        limits = self._process.host.cluster.profile.limits
        began_ms = self._impaired_ms
        return began_ms is not None and limits.stall_ms < now_ms - began_ms < limits.impaired_ms

    def an_engine_announces_what_it_does(self, turn: ObservedRuntime) -> None:
        """A turn before the announced time and without a message has no effect: in production
        there would have been none."""
        must(
            bool(turn.messages) or not turn.effects,
            "an_engine_announces_what_it_does",
            "%s: %d effects",
            self._process.replica.incarnation,
            turn.effects,
        )

    def a_turn_consumes_all_pending_messages(self) -> None:
        """Tripwires that fired and requests in the inbox."""
        process, name = self._process, "a_turn_consumes_all_pending_messages"
        must(process.tripwire.is_empty and process.inbox.is_empty, name, "%s", process.host.name)

    def a_leader_with_stalled_readback_resigns(self) -> None:
        """After `readback_ms` without a record read back although its appends are acknowledged."""
        replica = self._process.replica
        leadership = None if replica.role in ENDED else replica.leadership
        if leadership is None or leadership._acknowledged <= leadership._read_back:
            self._unread = None
            return
        now_ms = self._now_ms
        progress = (leadership.epoch, leadership._read_back)
        if self._unread is None or self._unread[0] != progress:
            self._unread = (progress, now_ms)
        limit_ms = self._process.host.cluster.profile.limits.readback_ms
        must(
            now_ms - self._unread[1] < limit_ms,
            "a_leader_with_stalled_readback_resigns",
            "%s: nothing for %d ms",
            self._process.replica.incarnation,
            now_ms - self._unread[1],
        )

    # --- limits -----------------------------------------------------------------------------

    def on_append(self, value: bytes) -> None:
        """A leader appends to the journal."""
        leadership = self._process.replica.leadership
        if leadership is None:
            return
        if value.startswith(b'{"kind":"heartbeat"'):
            before = [own for own in leadership.inflight if type(own.record) is not Resign]
            self._audit.no_heartbeat_while_a_record_is_not_read_back(before)
        elif value.startswith(b'{"kind":"resign"'):
            self.a_resignation_leaves_the_marks(leadership)
        elif value.startswith(b'{"kind":"entry"'):
            self.the_pipeline_is_bounded(len(leadership.inflight))

    def a_resignation_leaves_the_marks(self, leadership: Leadership[Any, Any, Any]) -> None:
        """Unless it is forced: a release without a sink must know that all of it is published."""
        if any(own.appended_ms < self._now_ms for own in leadership.inflight):
            return  # forced
        must(
            leadership._published() == leadership._marks,
            "a_resignation_leaves_the_marks",
            "%s, last record with %s",
            leadership._published(),
            leadership._marks,
        )

    def the_pipeline_is_bounded(self, entries: int) -> None:
        """At most `pipeline_entries` own records are not read back yet."""
        limit = self._process.host.cluster.profile.limits.pipeline_entries
        must(entries <= limit, "the_pipeline_is_bounded", "%d, at most %d", entries, limit)
