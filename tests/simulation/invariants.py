"""The invariants: what must hold whatever fault happens. The name of a function is the promise.

`ShardAudit` follows one shard: the reference folds each journal record at the instant it lands,
so at any time it knows everything that is accepted, and the state that follows from it.
"""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from postjournal.core.messages import RecordVoid
from postjournal.core.replica import Replica
from postjournal.core.roles import Role
from postjournal.core.sharding import DEFAULT_KEY, shard_of
from postjournal.core.state.outbox import Outputs
from tests.simulation.reference import ACCEPTED, ALARM, Json, Point, ReferenceFold, parsed
from tests.simulation.reference_shard import ReferenceShard, Unexplained, Version

if TYPE_CHECKING:
    from tests.simulation.cluster import SimulatedCluster
    from tests.simulation.shard_process import ShardProcess

AnyReplica = Replica[Any, Any, Any]

ENDED = (Role.REBUILDING, Role.STOPPED)
"""Roles whose state is discarded: it may contain what never became stable."""


CORRUPT_DIGEST = "corrupt"
"""The digest of entries that `FaultInjector.corrupt_entry` lands."""


class Violation(Exception):
    """An invariant does not hold."""

    def __init__(self, invariant: str, detail: str) -> None:
        """`invariant`: the name of the promise."""
        super().__init__(f"{invariant}: {detail}")
        self.invariant, self.detail = invariant, detail


def must(holds: bool, invariant: str, detail: str, *args: object) -> None:
    """Raise `Violation` if it does not hold."""
    if not holds:
        raise Violation(invariant, detail % args)


@dataclass
class Query:
    """A query and its answer.

    `floor`: how many commands were stable when the query was sent; `min_seq`: the answer must
    include the command with this sequence.
    """

    shard: int
    account: str
    linearizable: bool
    floor: int
    host: str
    life: tuple[int, int] | None
    min_seq: int
    answered: bool = False
    error: str | None = None
    seq: int = -1


class ShardAudit:
    """The invariants of one shard, and what the reference knows about its journal."""

    def __init__(self, cluster: SimulatedCluster, shard: int) -> None:
        self.cluster, self.shard = cluster, shard
        self.fold = ReferenceFold()
        profile = cluster.profile
        self.reference = ReferenceShard(
            shard, profile.limits.dedupe_window, self._source, self._is_own
        )
        self.points: list[Point] = [self.fold.point()]  # by journal position
        self.versions: list[Version] = [self.reference.version()]
        self.version_at: list[int] = [0]  # journal position → index in `versions`
        self.verdicts: list[str] = []  # by offset
        self.by_seq: dict[int, Version] = {0: self.versions[0]}
        self.leaders: dict[int, str] = {}  # epoch → leading incarnation
        self.marks: dict[int, dict[str, int]] = {}  # epoch → marks when its claim landed
        self.gaps: dict[int, int] = {}  # epoch → offset of its first record over a gap
        self.last_of_epoch: dict[int, int] = {}  # epoch → offset of its leader's last record
        self.effects: dict[str, int] = {}  # command id → number of entries with its events
        self.forged: set[int] = set()  # offsets of forged records
        self.forged_entries: dict[int, int] = {}  # epoch → offset of the first accepted one

    def _source(self, topic: str, offset: int) -> tuple[bytes | None, bytes | None]:
        records = self.cluster.topics[self.shard].sources[topic].records
        return records[offset][1:3] if offset < len(records) else (None, None)

    def _is_own(self, key: bytes | None) -> bool:
        shards = self.cluster.profile.shards
        return shards == 1 or shard_of(key or DEFAULT_KEY, shards) == self.shard

    # --- when a journal record lands --------------------------------------------------------

    def on_journal(self, offset: int, value: bytes) -> None:
        """Fold a record into the reference and check what it may be."""
        record = parsed(value)
        before = self.fold.epoch
        verdict = self.fold.take(offset, value, record)
        self.verdicts.append(verdict)
        self._note(offset, record, verdict)
        self.cluster.on_verdict(self, offset, record, verdict, before)
        if verdict == ACCEPTED:
            self.a_mark_is_never_ahead_of_the_sink(record.get("published", {}))
            if record["kind"] == "entry":
                self.an_entry_respects_the_limits(record)
                self.every_source_record_is_decided_once_and_in_order(offset, record)
                self.money_is_conserved()
        self.only_corrupt_entries_raise_an_alarm(offset, verdict, record)
        must(self.fold.epoch >= before, "epochs_never_decrease", "at offset %d", offset)
        self.points.append(self.fold.point())
        self.version_at.append(len(self.versions) - 1)

    def _note(self, offset: int, record: Any, verdict: str) -> None:
        kind = record.get("kind") if isinstance(record, dict) else None
        if kind == "claim" and verdict == ACCEPTED:
            self.marks[record["epoch"]] = dict(self.fold.published)
        if kind not in ("entry", "heartbeat", "resign") or verdict == ALARM:
            return
        epoch = record["epoch"]
        if offset in self.forged:
            if kind == "entry" and verdict == ACCEPTED:
                self.forged_entries.setdefault(epoch, offset)
            return
        self.last_of_epoch[epoch] = offset
        if kind == "resign":
            return
        if verdict != ACCEPTED and epoch == self.fold.epoch and record["seq"] > self.fold.next_seq:
            self.gaps.setdefault(epoch, offset)
            if kind == "entry":
                self.cluster.coverage.hit("entries over a gap")

    def every_source_record_is_decided_once_and_in_order(self, offset: int, entry: Json) -> None:
        """By the rules of the ledger; duplicates by those of the dedupe window."""
        reference = self.reference
        try:
            reference.accept(entry)
        except Unexplained as error:
            raise Violation(
                "every_source_record_is_decided_once_and_in_order", f"offset {offset}: {error}"
            ) from error
        must(reference.next_seq == self.fold.next_seq, "seqs_are_dense", "at offset %d", offset)
        self.a_command_takes_effect_once(entry)
        self.cluster.coverage.hit("duplicates after the window", len(reference.decided_again))
        version = reference.version()
        self.versions.append(version)
        self.by_seq[version.next_seq] = version

    def a_command_takes_effect_once(self, entry: Json) -> None:
        """Within the dedupe window, counted independently of the reference."""
        for item in entry["batch"]:
            if item.get("events"):
                command_id = item["id"]
                self.effects[command_id] = self.effects.get(command_id, 0) + 1
        if self.cluster.profile.limits.dedupe_window >= 1_000:
            twice = [command_id for command_id, count in self.effects.items() if count > 1]
            must(not twice, "a_command_takes_effect_once", "%s", twice)

    def an_entry_respects_the_limits(self, entry: Json) -> None:
        """At most `batch_commands`, and none while too many outputs are unpublished."""
        limits, name = self.cluster.profile.limits, "an_entry_respects_the_limits"
        must(len(entry["batch"]) <= limits.batch_commands, name, "%s", entry)
        for sink in entry["published"]:
            backlog = len(self.reference.outputs[sink]) - entry["published"][sink]
            must(backlog < limits.unpublished_outputs, name, "%s: %d", sink, backlog)

    def money_is_conserved(self) -> None:
        """The sum of all balances is the sum of deposits less withdrawals."""
        ledger = self.reference.ledger
        total = sum(ledger.accounts.values())
        must(total == ledger.tally, "money_is_conserved", "%d, not %d", total, ledger.tally)

    def a_mark_is_never_ahead_of_the_sink(self, marks: dict[str, int]) -> None:
        """Everything before a mark (`published`) is in the sink's topic."""
        for sink, mark in marks.items():
            end = self.cluster.topics[self.shard].sinks[sink].next_seq
            name = "a_mark_is_never_ahead_of_the_sink"
            must(mark <= end, name, "%s: mark %d, the sink ends at %d", sink, mark, end)

    def only_corrupt_entries_raise_an_alarm(self, offset: int, verdict: str, record: Any) -> None:
        """The digest matches in every entry that a leader writes before the first forged one."""
        genuine = (
            verdict == ALARM
            and not str(record["digest_before"]).startswith(CORRUPT_DIGEST)
            and record["epoch"] not in self.forged_entries
        )
        must(not genuine, "only_corrupt_entries_raise_an_alarm", "at offset %d", offset)

    # --- after each turn of a replica -------------------------------------------------------

    def after_turn(self, process: ShardProcess) -> None:
        """Check what concerns one replica."""
        replica = process.replica
        if replica.role in ENDED:
            return
        if replica.leadership is not None:
            self.one_leader_per_epoch(replica)
            self.a_failed_append_ends_the_leadership(process, replica.leadership.epoch)
            self.a_gap_ends_the_leadership(replica, replica.leadership.epoch)
            self.a_forged_entry_ends_the_leadership(replica, replica.leadership.epoch)
        if replica.position == process.audited:
            return
        if replica.leadership is None:
            self.only_a_leader_reads_sources_or_publishes(process)
        process.audited = replica.position
        self.every_replica_folds_a_prefix_to_the_same_state(replica)
        if replica.leadership is None or not replica.leadership.inflight:
            self.state_follows_from_the_journal(replica)

    def every_replica_folds_a_prefix_to_the_same_state(self, replica: AnyReplica) -> None:
        """To the same state as the reference."""
        j = replica.journal
        mine = (j.epoch, j.leader, j.alive_at, j.resigned, j.next_seq, j.digest, j.published)
        right = self.points[replica.position]
        must(
            mine == right,
            "every_replica_folds_a_prefix_to_the_same_state",
            "%s at position %d has %s, must have %s",
            replica.incarnation,
            replica.position,
            mine,
            right,
        )

    def one_leader_per_epoch(self, replica: AnyReplica) -> None:
        """A replica that considers itself the leader is so by the journal, and the only one."""
        assert replica.leadership is not None
        epoch, incarnation = replica.leadership.epoch, replica.incarnation
        other = self.leaders.setdefault(epoch, incarnation)
        must(
            other == incarnation == replica.journal.leader,
            "one_leader_per_epoch",
            "epoch %d: %s and %s",
            epoch,
            other,
            incarnation,
        )

    def only_a_leader_reads_sources_or_publishes(self, process: ShardProcess) -> None:
        """A paused host may not have closed them yet."""
        log, name = process.log, "only_a_leader_reads_sources_or_publishes"
        busy = log.sink_producers or any(reader.is_open for reader in log.sources.values())
        must(not busy or process.host.paused_until_us is not None, name, "%s", process.host.name)

    def every_replica_agrees_that_a_record_is_void(self, event: RecordVoid) -> None:
        """And raises the alarm on all replicas or on none."""
        verdict = self.verdicts[event.offset]
        must(
            verdict != ACCEPTED and event.alarm == (verdict == ALARM),
            "every_replica_agrees_that_a_record_is_void",
            "%s, but it is %s",
            event,
            verdict,
        )

    def a_failed_append_ends_the_leadership(self, process: ShardProcess, epoch: int) -> None:
        """The leadership that appended it, as soon as the failure is reported."""
        name = "a_failed_append_ends_the_leadership"
        must(process.log.failed_epoch != epoch, name, "%s, epoch %d", process.host.name, epoch)

    def a_gap_ends_the_leadership(self, replica: AnyReplica, epoch: int) -> None:
        """As soon as the leader reads a record of its own that follows a lost one."""
        gap = self.gaps.get(epoch, replica.position)
        name = "a_gap_ends_the_leadership"
        must(gap >= replica.position, name, "%s: gap at %d", replica.incarnation, gap)

    def a_forged_entry_ends_the_leadership(self, replica: AnyReplica, epoch: int) -> None:
        """As soon as the leader reads it accepted: its own later decisions no longer fit."""
        offset = self.forged_entries.get(epoch, replica.position)
        name = "a_forged_entry_ends_the_leadership"
        must(offset >= replica.position, name, "%s: entry at %d", replica.incarnation, offset)

    def state_follows_from_the_journal(self, replica: AnyReplica) -> None:
        """Application state, positions in the sources, ends of the sinks."""
        version = self.versions[self.version_at[replica.position]]
        machine = replica.machine
        ends = dict.fromkeys(version.sinks, 0) | machine.other_sinks | machine.sink_ends()
        mine = (machine.state, machine.sources, ends)
        right = (version.accounts, version.sources, version.sinks)
        must(
            mine == right,
            "state_follows_from_the_journal",
            "%s at position %d has %s, must have %s",
            replica.incarnation,
            replica.position,
            mine,
            right,
        )

    def the_dedupe_window_matches_the_reference(self, replica: AnyReplica) -> None:
        """With its outcomes. Slow."""
        reference, machine = self.reference, replica.machine
        name = "the_dedupe_window_matches_the_reference"
        must(len(machine.window) == len(reference.window), name, "window of %s", replica.role)
        for command_id, first in reference.window.items():
            mine = msgspec.json.decode(msgspec.json.encode(machine.window.get(command_id)))
            must(mine == first.item(), name, "%s: %s, not %s", command_id, mine, first.item())

    def published_outputs_are_dropped(self, process: ShardProcess) -> None:
        """Otherwise memory would grow without limit. They are dropped by whole entries, or all that
        came from a snapshot at once."""
        position, name = process.replica.position, "published_outputs_are_dropped"
        opened, now = self.version_at[process.liveness.opened_offset], self.version_at[position]
        ends = [version.sinks for version in self.versions[opened : now + 1]]
        for sink, mark in self.points[position][-1].items():
            begin = max((end[sink] for end in ends if end[sink] <= mark), default=0)
            outbox = process.replica.machine.outboxes.get(sink)
            if outbox is None:
                continue
            first = outbox.next_seq - len(outbox)
            must(first >= begin, name, "%s: retained from %d, mark %d", sink, first, mark)

    def unpublished_outputs_are_available(self, replica: AnyReplica) -> None:
        """Only at the end: a standby makes outputs on demand, so the check makes them."""
        machine, name = replica.machine, "unpublished_outputs_are_available"
        for sink, outputs in self.reference.outputs.items():
            if sink not in machine.outboxes:
                continue
            mark = self.fold.published.get(sink, 0)
            unpublished = machine.outboxes[sink].between(mark, len(outputs))
            count = sum(len(chunk.values) for chunk in unpublished)
            must(count == len(outputs) - mark, name, "outputs of %s", sink)
            for chunk in unpublished:
                for seq, value in enumerate(chunk.values, chunk.first):
                    self.an_output_follows_from_the_journal(sink, seq, value)

    # --- outputs and answers ----------------------------------------------------------------

    def no_heartbeat_while_a_record_is_not_read_back(self, inflight: Sized) -> None:
        """Otherwise a leader whose entries cannot land would lead forever.

        `inflight`: without a resignation, which ends the leadership, and may follow at once.
        """
        name = "no_heartbeat_while_a_record_is_not_read_back"
        must(len(inflight) <= 1, name, "%s", inflight)

    def a_claim_carries_the_last_offset_read(self, position: int, value: bytes) -> None:
        """`seen` is the offset of the last journal record that the claimant has read."""
        seen = parsed(value)["seen"]
        name = "a_claim_carries_the_last_offset_read"
        must(seen == position - 1, name, "seen %d, next to read is %d", seen, position)

    def on_publish(self, sink: str, outputs: Outputs, known: int) -> None:
        """Outputs leave the process."""
        self.no_output_known_to_be_in_the_sink_is_published(sink, outputs.first, known)
        for seq, value in enumerate(outputs.values, outputs.first):
            self.no_output_is_published_before_it_is_stable(sink, seq)
            self.an_output_follows_from_the_journal(sink, seq, value)

    def no_output_known_to_be_in_the_sink_is_published(
        self, sink: str, seq: int, known: int
    ) -> None:
        """By the sink's tail, or the marks at the takeover; other outputs may be duplicated."""
        name = "no_output_known_to_be_in_the_sink_is_published"
        must(seq >= known, name, "%s %d, all before %d is in the sink", sink, seq, known)

    def no_output_is_published_before_it_is_stable(self, sink: str, seq: int) -> None:
        """Its entry is accepted in the journal."""
        stable, name = (
            len(self.reference.outputs[sink]),
            "no_output_is_published_before_it_is_stable",
        )
        must(seq < stable, name, "%s %d, stable is what is before %d", sink, seq, stable)

    def an_output_follows_from_the_journal(self, sink: str, seq: int, value: bytes) -> None:
        """Any two leaders publish the same output for a sequence."""
        right = self.reference.outputs[sink][seq]
        mine = parsed(value)
        must(
            mine == right,
            "an_output_follows_from_the_journal",
            "%s: %s, must be %s",
            sink,
            mine,
            right,
        )

    def a_sink_has_no_gap(self, sink: str, seq: int, value: bytes) -> None:
        """A subscriber that drops duplicates sees 0, 1, 2 …"""
        assert parsed(value)["seq"] == seq
        expected = self.cluster.topics[self.shard].sinks[sink].next_seq
        must(seq <= expected, "a_sink_has_no_gap", "%s: %d came, expected %d", sink, seq, expected)

    def on_reply(self, query: Query, result: object, seq: int) -> None:
        """An answer leaves the process."""
        self.an_answer_reflects_only_accepted_state(query, result, seq)
        self.an_answer_includes_min_seq(query, seq)
        if query.linearizable:
            self.a_linearizable_answer_is_not_stale(query, seq)

    def an_answer_reflects_only_accepted_state(
        self, query: Query, result: object, seq: int
    ) -> None:
        """It is correct at `seq`, and `seq` is stable."""
        name = "an_answer_reflects_only_accepted_state"
        must(seq < self.fold.next_seq, name, "seq %d of %d", seq, self.fold.next_seq)
        version = self.by_seq.get(seq + 1)
        must(version is not None, name, "seq %d is no entry's last", seq)
        assert version is not None
        balance = version.accounts.get(query.account)
        right = None if balance is None else {"account": query.account, "balance": balance}
        must(result == right, name, "%s at seq %d, must be %s", result, seq, right)

    def an_answer_includes_min_seq(self, query: Query, seq: int) -> None:
        """Whichever replica answers, and whatever happened to it since the query."""
        name = "an_answer_includes_min_seq"
        must(seq >= query.min_seq, name, "seq %d, requested %d", seq, query.min_seq)

    def a_linearizable_answer_is_not_stale(self, query: Query, seq: int) -> None:
        """It includes everything that was accepted when the query was sent."""
        must(
            seq + 1 >= query.floor,
            "a_linearizable_answer_is_not_stale",
            "answered at seq %d, %d commands were stable when the question came",
            seq,
            query.floor,
        )

    # --- at the end -------------------------------------------------------------------------

    def everything_is_decided(self) -> bool:
        """Whether every source record is decided, valid command or not."""
        topics = self.cluster.topics[self.shard].sources
        return all(
            self.reference.sources.get(name, 0) == len(partition.records)
            for name, partition in topics.items()
        )

    def everything_is_published(self) -> bool:
        """Whether every output of every decision is in its sink."""
        sinks = self.cluster.topics[self.shard].sinks
        return all(
            sinks[name].next_seq == len(outputs) for name, outputs in self.reference.outputs.items()
        )
