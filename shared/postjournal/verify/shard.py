"""Audits one shard: reads the journal once, and everything else in step with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from postjournal.core.application import Application, Context
from postjournal.core.errors import ApplicationFaulty
from postjournal.core.records import Codec, Entry, Heartbeat, Outcome, Record
from postjournal.verify.decisions import Decisions
from postjournal.verify.journal import JournalFold
from postjournal.verify.marks import Mark, Unpublished
from postjournal.verify.partition import Partition
from postjournal.verify.replay import Replay
from postjournal.verify.replicas import ReplicaCheck, ReportedDigest
from postjournal.verify.report import ShardReport, SinkReport, SourceReport, StartReport
from postjournal.verify.rules import Findings, Rule
from postjournal.verify.sinks import SinkCheck
from postjournal.verify.snapshot_audit import SnapshotAudit
from postjournal.verify.snapshots import Content, ExpectedState, Header, StoredSnapshot

OnProgress = Callable[[int, int], None]
"""Called with the next journal offset and the commands so far."""


@dataclass(frozen=True)
class Sink:
    """A sink's partition; `settled_end`: its end offset before the journal's end was fetched."""

    partition: Partition
    settled_end: int


@dataclass(frozen=True)
class AuditInput:
    """Everything that the audit of one shard compares.

    `sources`: by full topic name; `sinks`: by short name; `reported`: digests that replicas have
    published; `snapshots`: those with a valid manifest; `unreadable_manifests`: name → reason.

    The ends are fetched in this order, so that a running system does not look damaged: snapshots,
    reported digests and the sinks' settled ends; the journal; the sinks and the sources.
    """

    shard: int
    shards: int
    journal: Partition
    sources: Mapping[str, Partition]
    sinks: Mapping[str, Sink]
    status_topic: str = ""
    reported: Sequence[ReportedDigest] = ()
    snapshots: Sequence[StoredSnapshot] = ()
    unreadable_manifests: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Tally:
    succeeded: int = 0
    rejected: int = 0
    repeated: int = 0

    def count(self, batch: Sequence[Outcome[Any]]) -> None:
        repeated = sum(item.replayed for item in batch)
        rejected = sum(item.rejected is not None for item in batch)
        self.repeated += repeated
        self.rejected += rejected
        self.succeeded += len(batch) - repeated - rejected

    @property
    def commands(self) -> int:
        return self.succeeded + self.rejected + self.repeated


def ignore_progress(next_offset: int, commands: int) -> None:
    """Do nothing: the default of `audit_shard`."""
    del next_offset, commands


def audit_shard(
    application: Application[Any, Any, Any],
    audit_input: AuditInput,
    dedupe_window: int,
    on_progress: OnProgress = ignore_progress,
) -> ShardReport:
    """Read and check everything in `audit_input`.

    Raises `JournalUnavailable` when Kafka does not answer, and `RecordsMissing` when the journal's
    beginning is deleted and no sound snapshot replaces it.
    """
    return _ShardAudit(application, audit_input, dedupe_window).run(on_progress)


class _ShardAudit:
    def __init__(
        self, application: Application[Any, Any, Any], audit_input: AuditInput, dedupe_window: int
    ) -> None:
        self._application, self._input = application, audit_input
        self._dedupe_window = dedupe_window
        self._findings = findings = Findings(audit_input.shard)
        self._topic = audit_input.journal.topic
        self._codec: Codec[Any] = Codec(application.event_type)
        self._fold = JournalFold(self._topic, self._codec, findings)
        self._replay: Replay[Any, Any, Any] = Replay(
            application, audit_input.shard, audit_input.shards, dedupe_window
        )
        self._snapshots = SnapshotAudit(
            application, audit_input.snapshots, audit_input.unreadable_manifests, findings
        )
        self._next_offset = audit_input.journal.first
        self._tally = _Tally()
        self._start_snapshot: StoredSnapshot | None = None
        first = self._resume() if audit_input.journal.first else None
        marks = first.header.published if first else {}
        # Of a sink that the snapshot's release had not, the snapshot has no outputs.
        starts = marks | (first.header.other_sinks or {}) if first else {}
        self._marks = {name: Mark(mark) for name, mark in marks.items()}
        self._sinks = {
            name: SinkCheck(sink.partition, findings, starts.get(name, 0))
            for name, sink in audit_input.sinks.items()
        }
        self._ends = dict(first.header.all_sinks) if first else dict[str, int]()
        self._unpublished = {name: Unpublished(starts.get(name, 0)) for name in audit_input.sinks}
        self._decisions = Decisions(
            self._topic,
            audit_input.sources,
            self._replay,
            findings,
            first.header.sources if first else {},
        )
        self._replicas = ReplicaCheck(
            audit_input.status_topic, audit_input.reported, findings, self._fold.next_seq
        )
        for name, outputs in first.outputs.items() if first else ():
            if name in self._sinks:
                self._expect(name, outputs)

    def _resume(self) -> Content:
        """Start behind a snapshot, because the journal before it is deleted."""
        partition = f"{self._topic}/{self._input.shard}"
        self._start_snapshot, content, state = self._snapshots.start(
            self._input.journal.first, partition
        )
        self._fold.resume(content.header)
        self._replay.resume(content.outcomes, state)
        self._next_offset = content.header.offset + 1
        return content

    def run(self, on_progress: OnProgress) -> ShardReport:
        try:
            self._read_journal(on_progress)
        except ApplicationFaulty as failure:
            self._findings.add(Rule.APPLICATION, self._topic, self._next_offset, str(failure))
        else:
            self._finish()
        return self._report()

    def _read_journal(self, on_progress: OnProgress) -> None:
        self._replicas.reached(self._fold.next_seq, self._fold.digest)
        journal, decode = self._input.journal, self._codec.decode
        for chunk in journal.chunks(self._next_offset):
            for offset, value in zip(chunk.offsets, chunk.values, strict=True):
                self._next_offset = offset
                self._check_record(offset, decode(value), value)
                if offset == self._snapshots.next_offset:
                    self._snapshots.compare(self._expected_state(offset, value))
            self._next_offset = chunk.offsets[-1] + 1
            on_progress(self._next_offset, self._tally.commands)

    def _check_record(self, offset: int, record: Record[Any], value: bytes) -> None:
        accepted = self._fold.fold(offset, record, value)
        if not accepted:
            self._seek_gap_proof(record)
        for at, counted, next_seq, digest in accepted:
            if isinstance(counted, Entry | Heartbeat):
                self._check_marks(at, counted)
            if type(counted) is Entry:
                self._check_entry(at, counted)
                self._replicas.reached(next_seq, digest)

    def _check_entry(self, offset: int, entry: Entry[Any]) -> None:
        context = Context(time=entry.time, shard=self._input.shard)
        outcomes = self._decisions.check_entry(offset, entry, context)
        self._tally.count(entry.batch)
        for name, end in entry.sinks.items():
            self._check_sink(name, end, outcomes, entry.time, offset)

    def _check_sink(
        self, name: str, end: int, outcomes: Sequence[Any], time: int, offset: int
    ) -> None:
        """Leaders of other releases may lack a sink, which then has no outputs of the entry, or
        have one that the application here has not, whose outputs cannot be computed."""
        self._ends[name] = end
        if name not in self._sinks:
            return
        next_seq = self._sinks[name].next_seq
        self._expect(name, self._replay.outputs(name, outcomes, time, next_seq))
        self._ends[name] = stable = self._sinks[name].next_seq
        if end != stable:
            text = f"`sinks` has {name} at {end}, but its outputs end at {stable}"
            self._findings.add(Rule.SINK_ENDS, self._topic, offset, text)

    def _expect(self, sink: str, outputs: list[bytes]) -> None:
        self._sinks[sink].expect(outputs)
        if self._snapshots.next_offset is not None:
            self._unpublished[sink].add(outputs)

    def _check_marks(self, offset: int, record: Entry[Any] | Heartbeat) -> None:
        """Called before the record's own outputs are added."""
        for name, next_seq in record.published.items():
            if next_seq > self._stable(name):
                text = (
                    f"{name} is published up to {next_seq}, but stable up to {self._stable(name)}"
                )
                self._findings.add(Rule.MARK_STABLE, self._topic, offset, text)
            elif next_seq > self._mark(name).next_seq:
                self._marks[name] = Mark(next_seq, offset)
                if name in self._unpublished:
                    self._unpublished[name].forget(next_seq)

    def _mark(self, sink: str) -> Mark:
        return self._marks.get(sink, Mark())

    def _stable(self, sink: str) -> int:
        return self._sinks[sink].next_seq if sink in self._sinks else self._ends.get(sink, 0)

    def _seek_gap_proof(self, record: Record[Any]) -> None:
        """A void record behind a gap may prove outputs that only the missing entries produce."""
        if self._fold.gap is None or not isinstance(record, Entry | Heartbeat):
            return
        for name, next_seq in record.published.items():
            if record.epoch == self._fold.epoch and next_seq > self._stable(name):
                self._fold.confirm_gap(f"a record behind it has {name} published up to {next_seq}")

    def _expected_state(self, offset: int, value: bytes) -> ExpectedState:
        fold, marks = self._fold, self._marks
        return ExpectedState(
            header=Header(
                application=self._application.name,
                schema_version=self._application.schema_version,
                shard=self._input.shard,
                shards=self._input.shards,
                dedupe_window=self._dedupe_window,
                offset=offset,
                record_digest=blake2b(value, digest_size=16).hexdigest(),
                epoch=fold.epoch,
                leader=fold.leader.incarnation if fold.leader else None,
                alive_at=fold.alive_at,
                resigned=fold.resigned,
                claim=fold.leader,
                next_seq=fold.next_seq,
                digest=fold.digest,
                published={name: m.next_seq for name, m in marks.items() if m.next_seq},
                sources={topic: end for topic, end in self._decisions.positions.items() if end},
                sinks=dict(self._ends),
            ),
            outcomes=self._replay.window.values(),
            outputs={name: outputs.values for name, outputs in self._unpublished.items()},
            state=self._replay.state,
        )

    def _finish(self) -> None:
        for name, check in self._sinks.items():
            check.finish(self._input.sinks[name].settled_end)
            mark = self._mark(name)
            if mark.next_seq > max(check.present, check.unchecked):
                text = f"{name} is published up to {mark.next_seq}, but its topic ends before that"
                self._findings.add(Rule.MARK_IN_SINK, self._topic, mark.offset, text)
        self._snapshots.finish(self._next_offset)
        beyond = self._replicas.finish(self._fold.next_seq)
        if self._findings[Rule.SINK_EXPLAINED]:
            self._fold.confirm_gap("a sink holds outputs that do not follow from the journal")
        if beyond:
            self._fold.confirm_gap("replicas have reported seqs beyond the journal's end")

    # --- the report -------------------------------------------------------------------------------

    def _report(self) -> ShardReport:
        fold, tally = self._fold, self._tally
        return ShardReport(
            shard=self._input.shard,
            start=self._start_report(),
            journal_first=self._input.journal.first,
            journal_end=self._next_offset,
            epoch=fold.epoch,
            leader=fold.leader.replica if fold.leader else None,
            seq=fold.next_seq,
            digest=fold.digest,
            accepted=dict(fold.accepted),
            void=dict(fold.void_kinds),
            void_reasons=dict(fold.void_reasons),
            commands=tally.commands,
            succeeded=tally.succeeded,
            rejected=tally.rejected,
            repeated=tally.repeated,
            unchecked=self._decisions.unchecked,
            sources={topic: self._source_report(topic) for topic in self._input.sources},
            sinks={name: self._sink_report(name) for name in self._sinks},
            replicas=dict(self._replicas.agreed),
            snapshots=self._snapshots.compared,
            broken=dict(self._findings.counts),
            findings=self._findings.examples,
        )

    def _start_report(self) -> StartReport | None:
        if self._start_snapshot is None:
            return None
        manifest = self._start_snapshot.manifest
        return StartReport(snapshot=manifest.id, offset=manifest.offset, seq=manifest.seq)

    def _source_report(self, topic: str) -> SourceReport:
        decided = self._decisions.positions[topic]
        end = self._input.sources[topic].end
        return SourceReport(decided=decided, waiting=max(end - decided, 0))

    def _sink_report(self, name: str) -> SinkReport:
        check = self._sinks[name]
        return SinkReport(
            outputs=check.next_seq,
            present=check.present,
            unpublished=check.next_seq - max(check.present, check.unchecked),
            published=self._mark(name).next_seq,
            repeats=check.repeats,
            unchecked=check.unchecked,
        )
