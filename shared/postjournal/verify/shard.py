"""The audit of one shard: the journal read once, everything else along with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from postjournal.core.application import Application, Context
from postjournal.core.records import Claim, Codec, Entry, Heartbeat, Outcome, Record
from postjournal.verify.decisions import Decisions
from postjournal.verify.journal import JournalFold
from postjournal.verify.partition import Partition
from postjournal.verify.replay import ApplicationFailed, Replay
from postjournal.verify.replicas import ReplicaCheck, Said
from postjournal.verify.report import ShardReport, SinkReport, SourceReport
from postjournal.verify.rules import Findings, Rule
from postjournal.verify.sinks import SinkCheck

OnProgress = Callable[[int, int], None]
"""Called with the next journal offset and the commands so far."""


@dataclass(frozen=True)
class Sink:
    """`settled_end`: the topic's end before the journal's end was asked for."""

    partition: Partition
    settled_end: int


@dataclass(frozen=True)
class Evidence:
    """All that is known of one shard. `sources`: by full topic name; `sinks`: by short name.

    The ends are asked for in this order, so that a running system cannot look damaged: what
    replicas said and the sinks' settled ends; the journal; the sinks and the sources.
    """

    shard: int
    shards: int
    journal: Partition
    sources: Mapping[str, Partition]
    sinks: Mapping[str, Sink]
    status_topic: str = ""
    said: Sequence[Said] = ()


@dataclass
class _Mark:
    """The highest `published` of a sink, and the journal record that has it."""

    next_seq: int = 0
    offset: int = -1


@dataclass
class _Tally:
    succeeded: int = 0
    rejected: int = 0
    repeated: int = 0

    def count(self, batch: Sequence[Outcome[Any]]) -> None:
        """Take in the items of an entry."""
        repeated = sum(item.replayed for item in batch)
        rejected = sum(item.rejected is not None for item in batch)
        self.repeated += repeated
        self.rejected += rejected
        self.succeeded += len(batch) - repeated - rejected

    @property
    def commands(self) -> int:
        """All of them."""
        return self.succeeded + self.rejected + self.repeated


def ignore_progress(next_offset: int, commands: int) -> None:
    """For callers that do not show it."""
    del next_offset, commands


def audit_shard(
    application: Application[Any, Any, Any],
    evidence: Evidence,
    dedupe_window: int,
    on_progress: OnProgress = ignore_progress,
) -> ShardReport:
    """Read everything, check everything. Raises `JournalUnavailable` when Kafka is away."""
    return _ShardAudit(application, evidence, dedupe_window).run(on_progress)


@dataclass
class _ShardAudit:
    application: Application[Any, Any, Any]
    evidence: Evidence
    dedupe_window: int
    findings: Findings = field(init=False)

    def __post_init__(self) -> None:
        evidence = self.evidence
        self.findings = Findings(evidence.shard)
        self._codec: Codec[Any] = Codec(self.application.event_type)
        self._topic = evidence.journal.topic
        self._fold = JournalFold(self._topic, self._codec, self.findings)
        self._replay: Replay[Any, Any, Any] = Replay(
            self.application, evidence.shard, evidence.shards, self.dedupe_window
        )
        self._decisions = Decisions(self._topic, evidence.sources, self._replay, self.findings)
        self._sinks = {
            name: SinkCheck(sink.partition, self.findings) for name, sink in evidence.sinks.items()
        }
        self._marks = {name: _Mark() for name in self._sinks}
        self._named: set[str] = set()
        self._replicas = ReplicaCheck(evidence.status_topic, evidence.said, self.findings)
        self._tally = _Tally()
        self._next_offset = evidence.journal.first

    def run(self, on_progress: OnProgress) -> ShardReport:
        """The whole audit."""
        try:
            self._read_journal(on_progress)
        except ApplicationFailed as failure:
            self.findings.add(Rule.APPLICATION, self._topic, self._next_offset, str(failure))
        else:
            self._finish()
        return self._report()

    def _read_journal(self, on_progress: OnProgress) -> None:
        self._replicas.reached(0, self._fold.digest)
        journal, decode = self.evidence.journal, self._codec.decode
        for chunk in journal.chunks(journal.first):
            for offset, value in zip(chunk.offsets, chunk.values, strict=True):
                self._next_offset = offset
                self._take(offset, decode(value), value)
            self._next_offset = chunk.offsets[-1] + 1
            on_progress(self._next_offset, self._tally.commands)

    def _take(self, offset: int, record: Record[Any], value: bytes) -> None:
        taken = self._fold.take(offset, record, value)
        if not taken:
            self._look_for_proof(record)
        for at, counted, next_seq, digest in taken:
            if isinstance(counted, Entry | Heartbeat):
                self._take_marks(at, counted)
            if type(counted) is Entry:
                self._take_entry(at, counted)
                self._replicas.reached(next_seq, digest)

    def _take_entry(self, offset: int, entry: Entry[Any]) -> None:
        context = Context(time=entry.time, shard=self.evidence.shard)
        outcomes = self._decisions.take(offset, entry, context)
        self._tally.count(entry.batch)
        self._named |= entry.sinks.keys()  # a sink that came with an upgrade begins there
        for name in self._named & self._sinks.keys():
            check = self._sinks[name]
            check.expect(self._replay.outputs(name, outcomes, entry.time, check.next_seq))
        ends = {n: check.next_seq for n, check in self._sinks.items() if n in self._named}
        if entry.sinks != ends:
            text = f"sinks are {entry.sinks}; the outputs end at {ends}"
            self.findings.add(Rule.SINK_ENDS, self._topic, offset, text)

    def _take_marks(self, offset: int, record: Entry[Any] | Heartbeat) -> None:
        """Called before the record's own outputs are told."""
        for name, next_seq in record.published.items():
            if next_seq > self._stable(name):
                text = f"{name} is published up to {next_seq}, stable up to {self._stable(name)}"
                self.findings.add(Rule.MARK_STABLE, self._topic, offset, text)
            elif next_seq > self._marks[name].next_seq:
                self._marks[name] = _Mark(next_seq, offset)

    def _stable(self, sink: str) -> int:
        return self._sinks[sink].next_seq if sink in self._sinks else 0

    def _look_for_proof(self, record: Record[Any]) -> None:
        """A void record behind a gap may tell of outputs that only the missing entries gave."""
        if self._fold.gap is None or not isinstance(record, Entry | Heartbeat):
            return
        for name, next_seq in record.published.items():
            if record.epoch == self._fold.epoch and next_seq > self._stable(name):
                self._fold.confirm_gap(f"{name} is published up to {next_seq} there")

    def _finish(self) -> None:
        for name, check in self._sinks.items():
            check.finish(self.evidence.sinks[name].settled_end)
            mark = self._marks[name]
            if mark.next_seq > max(check.present, check.unchecked):
                text = f"{name} is published up to {mark.next_seq}, its topic ends before that"
                self.findings.add(Rule.MARK_IN_SINK, self._topic, mark.offset, text)
        beyond = self._replicas.finish(self._fold.next_seq)
        if self.findings[Rule.SINK_EXPLAINED]:
            self._fold.confirm_gap("a sink holds more than the journal gives")
        if beyond:
            self._fold.confirm_gap("replicas know more than the journal holds")

    # --- the report -------------------------------------------------------------------------------

    def _report(self) -> ShardReport:
        fold, tally = self._fold, self._tally
        return ShardReport(
            shard=self.evidence.shard,
            journal_first=self.evidence.journal.first,
            journal_end=self._next_offset,
            epoch=fold.epoch,
            leader=_name(fold.leader),
            seq=fold.next_seq,
            digest=fold.digest,
            accepted=dict(fold.accepted),
            void=dict(fold.void_kinds),
            void_reasons=dict(fold.voids),
            commands=tally.commands,
            succeeded=tally.succeeded,
            rejected=tally.rejected,
            repeated=tally.repeated,
            unchecked=self._decisions.unchecked,
            sources={topic: self._source(topic) for topic in self.evidence.sources},
            sinks={name: self._sink(name) for name in self._sinks},
            replicas=dict(self._replicas.agreed),
            broken=dict(self.findings.counts),
            findings=self.findings.examples,
        )

    def _source(self, topic: str) -> SourceReport:
        decided = self._decisions.positions[topic]
        end = self.evidence.sources[topic].end
        return SourceReport(decided=decided, waiting=max(end - decided, 0))

    def _sink(self, name: str) -> SinkReport:
        check = self._sinks[name]
        return SinkReport(
            outputs=check.next_seq,
            present=check.present,
            unpublished=check.next_seq - max(check.present, check.unchecked),
            published=self._marks[name].next_seq,
            repeats=check.repeats,
            unchecked=check.unchecked,
        )


def _name(leader: Claim | None) -> str | None:
    return None if leader is None else leader.replica
