"""Invariants of liveness: a replica claims, and a leader stops leading, only for a reason.

Safety allows more: a needless claim is void or only moves the leadership. But needless takeovers
make a system useless, and errors in the state of a replica show here first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from postjournal.core import messages as m
from tests.simulation.invariants import ENDED, must
from tests.simulation.reference import parsed

if TYPE_CHECKING:
    from tests.simulation.invariants import ShardAudit
    from tests.simulation.shard_process import ObservedRuntime, ShardProcess

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

    # --- claims -----------------------------------------------------------------------------

    def on_claim(self, value: bytes) -> None:
        """A claim leaves the process."""
        replica, audit = self._process.replica, self._audit
        audit.a_claim_carries_the_last_offset_read(replica.position, value)
        _, leader, alive_at, resigned, *_ = audit.points[replica.position]
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
            self._audit.no_heartbeat_while_a_record_is_not_read_back(leadership.inflight)
        elif value.startswith(b'{"kind":"entry"'):
            self.the_pipeline_is_bounded(len(leadership.inflight))

    def the_pipeline_is_bounded(self, entries: int) -> None:
        """At most `pipeline_entries` own records are not read back yet."""
        limit = self._process.host.cluster.profile.limits.pipeline_entries
        must(entries <= limit, "the_pipeline_is_bounded", "%d, at most %d", entries, limit)
