"""A shard's records as lists of bytes, for the auditor: generated here or read from a broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from postjournal.adapters.kafka.partition_reader import Chunk
from postjournal.cluster.status import ReplicaStatus
from postjournal.core.application import Application
from postjournal.core.fold import JournalState, Verdict
from postjournal.core.records import Claim, Codec, Entry, Heartbeat, Record
from postjournal.core.sharding import ShardPlace
from postjournal.core.state.state_machine import Run, StateMachine
from postjournal.ledger import Ledger
from postjournal.verify.replicas import ReportedDigest
from postjournal.verify.report import ShardReport
from postjournal.verify.shard import AuditInput, Sink, audit_shard

Json = dict[str, Any]
CHUNK = 7  # small, so that everything crosses a chunk boundary
WINDOW = 1_000


@dataclass(frozen=True)
class MemoryPartition:
    """A `verify.partition.Partition` in memory."""

    topic: str
    rows: Sequence[tuple[bytes | None, bytes]]
    first: int = 0

    @property
    def end(self) -> int:
        return len(self.rows)

    def chunks(self, start: int) -> Iterator[Chunk]:
        for low in range(max(start, self.first), self.end, CHUNK):
            rows = self.rows[low : low + CHUNK]
            keys, values = [key for key, _ in rows], [value for _, value in rows]
            yield Chunk(list(range(low, low + len(rows))), keys, values)


@dataclass
class ShardRecords:
    """All records of one shard's topics, by short name; a record's index is its offset."""

    namespace: str = "ledger"
    journal: list[bytes] = field(default_factory=list)
    sources: dict[str, list[tuple[bytes | None, bytes]]] = field(default_factory=dict)
    sinks: dict[str, list[bytes]] = field(default_factory=dict)
    statuses: list[ReplicaStatus] = field(default_factory=list)

    def topic(self, name: str) -> str:
        return f"{self.namespace}.{name}"

    def decoded(self, offset: int) -> Json:
        record: Json = msgspec.json.decode(self.journal[offset])
        return record

    def offsets(self, kind: str) -> list[int]:
        """The offsets of the journal's records of a kind."""
        return [n for n in range(len(self.journal)) if self.decoded(n)["kind"] == kind]

    def change(self, offset: int, edit: Callable[[Json], None]) -> None:
        """Replace the journal's record at `offset` by one that `edit` has changed."""
        record = self.decoded(offset)
        edit(record)
        self.journal[offset] = msgspec.json.encode(record)

    def copy(self) -> ShardRecords:
        return ShardRecords(
            self.namespace,
            list(self.journal),
            {name: list(rows) for name, rows in self.sources.items()},
            {name: list(values) for name, values in self.sinks.items()},
            list(self.statuses),
        )


def audit_input(
    records: ShardRecords, *, shard: int = 0, shards: int = 1, deleted: Json | None = None
) -> AuditInput:
    """`deleted`: short name → the first offset that retention has kept."""
    first = deleted or {}
    sinks = {
        name: MemoryPartition(
            records.topic(name), [(None, value) for value in values], first.get(name, 0)
        )
        for name, values in records.sinks.items()
    }
    return AuditInput(
        shard=shard,
        shards=shards,
        journal=MemoryPartition(
            records.topic("journal"), [(None, value) for value in records.journal]
        ),
        sources={
            records.topic(name): MemoryPartition(records.topic(name), rows, first.get(name, 0))
            for name, rows in records.sources.items()
        },
        sinks={name: Sink(partition, partition.end) for name, partition in sinks.items()},
        status_topic=records.topic("status"),
        reported=[ReportedDigest(offset, status) for offset, status in enumerate(records.statuses)],
    )


def audited(
    records: ShardRecords, application: Application[Any, Any, Any] | None = None
) -> ShardReport:
    return audit_shard(application or Ledger(), audit_input(records), WINDOW)


def broken(report: ShardReport) -> set[tuple[str, str]]:
    """(rule, topic/partition@offset) of every finding that has a text."""
    return {(finding.rule, finding.location) for finding in report.findings}


class History:
    """Writes the records of a shard as its leaders would, with the engine's state machine."""

    def __init__(
        self,
        application: Application[Any, Any, Any] | None = None,
        *,
        place: ShardPlace | None = None,
        window: int = WINDOW,
    ) -> None:
        self.application = application or Ledger()
        self.records = ShardRecords()
        self._machine: StateMachine[Any, Any, Any] = StateMachine(
            self.application, place or ShardPlace(0, 1), window
        )
        self._fold = JournalState()
        self._codec: Codec[Any] = Codec(self.application.event_type)
        self._encode = msgspec.json.Encoder().encode
        self._marks = dict.fromkeys(self._machine.outboxes, 0)
        self.records.sources = {name: [] for name in self.application.sources}
        self.records.sinks = {name: [] for name in self._machine.outboxes}

    def successor(self) -> History:
        """A replica that has read the journal and may claim."""
        other = History(self.application)
        other.records, other._fold, other._marks = self.records, self._fold, self._marks
        fold = JournalState()
        for offset, value in enumerate(self.records.journal):
            record = self._codec.decode(value)
            if fold.fold(offset, record, value) is Verdict.ACCEPTED and isinstance(record, Entry):
                other._machine.apply(record)
        return other

    @property
    def seq(self) -> int:
        return self._fold.next_seq

    def append(self, record: Record[Any]) -> Verdict:
        value = self._codec.encode(record)
        self.records.journal.append(value)
        return self._fold.fold(len(self.records.journal) - 1, record, value)

    def claim(self, replica: str = "r1", **changes: Any) -> None:
        seen = len(self.records.journal) - 1
        claim = Claim(self._fold.epoch + 1, replica, f"{replica}-i", "h:1", seen)
        self.append(msgspec.structs.replace(claim, **changes))

    def heartbeat(self) -> None:
        self.append(Heartbeat(self._fold.epoch, self.seq, dict(self._marks), 5))

    def entry(self, *runs: tuple[str, Sequence[object]]) -> Entry[Any]:
        """Append a stable entry; `runs`: source name and commands of each."""
        entry = self.decided(*runs)
        assert self.append(entry) is Verdict.ACCEPTED
        return entry

    def decided(self, *runs: tuple[str, Sequence[object]]) -> Entry[Any]:
        rows: list[Run] = [self._feed(name, commands) for name, commands in runs]
        batch = self._machine.decide(rows, time=1_000 + len(self.records.journal))
        return Entry(
            epoch=self._fold.epoch,
            seq=self.seq,
            batch=batch,
            sources=dict(self._machine.sources),
            sinks=self._machine.sink_ends(),
            published=dict(self._marks),
            time=1_000 + len(self.records.journal),
            digest_before=self._fold.digest,
        )

    def _feed(self, name: str, commands: Sequence[object]) -> Run:
        rows = self.records.sources[name]
        first = len(rows)
        for command in commands:
            value = command if isinstance(command, bytes) else self._encode(command)
            rows.append((b"main", value))
        topic = self.records.topic(name)
        return topic, [(first + n, *row) for n, row in enumerate(rows[first:])]

    def publish(self) -> None:
        """Publish all stable outputs; all are acknowledged."""
        for sink, outbox in self._machine.outboxes.items():
            for chunk in outbox.between(self._marks[sink], outbox.next_seq):
                self.records.sinks[sink] += chunk.values
            self._marks[sink] = outbox.next_seq

    def report(self, replica: str) -> None:
        """Publish a status record with the current digest."""
        self.records.statuses.append(status(replica, self.seq, self._fold.digest))


def status(replica: str, seq: int, digest: str) -> ReplicaStatus:
    return ReplicaStatus(
        replica=replica,
        incarnation=replica,
        pid=1,
        shard=0,
        state="standby",
        epoch=1,
        leader=None,
        leader_address=None,
        since=0,
        seq=seq,
        digest=digest,
        lag=0,
        lag_s=0.0,
        http="h:1",
        tripwire="h:2",
        time=0,
    )


def opened(*accounts: str) -> list[Json]:
    return [{"type": "open", "id": f"open-{a}", "account": a} for a in accounts]


def deposit(account: str, amount: int, command_id: str) -> Json:
    return {"type": "deposit", "id": command_id, "account": account, "amount": amount}


def transfer(source: str, to: str, amount: int, command_id: str) -> Json:
    return {"type": "transfer", "id": command_id, "from": source, "to": to, "amount": amount}


def eventful() -> ShardRecords:
    """Two leaderships, all kinds of outcomes, void records, repeats in a sink."""
    history = History()
    history.claim("r1")
    history.claim("r2", epoch=1)  # late
    history.heartbeat()
    history.entry(("commands", opened("a", "b")), ("feed", [deposit("a", 100, "d1")]))
    history.report("r1")
    history.publish()
    poison = [b"no json", b'{"type":"nonsense","id":"n1"}', deposit("a", 0, "d2")]
    history.entry(("feed", [*poison, deposit("zoe", 1, "d3"), deposit("a", 100, "d1")]))
    history.entry(("commands", [transfer("a", "b", n, f"t{n}") for n in range(1, 21)]))
    history.publish()
    history.heartbeat()
    zombie, history = history, history.successor()
    history.claim("r2")
    stale = zombie.decided(("commands", [transfer("a", "b", 1, "v1")]))
    zombie.records.sources["commands"].pop()  # it exists once, and r2 decides it later
    history.append(msgspec.structs.replace(stale, epoch=1))
    history.entry(
        ("feed", [deposit("b", n, f"m{n}") for n in range(5)]),
        ("commands", [transfer("b", "a", n, f"u{n}") for n in range(1, 6)]),
        ("feed", [deposit("b", 1, "m1")]),
    )
    history.publish()
    history.records.sinks["results"] += history.records.sinks["results"][-4:-1]  # the zombie's
    history.heartbeat()
    history.entry(("commands", [transfer("a", "b", 1, f"v{n}") for n in range(10)]))
    history.publish()
    history.heartbeat()
    history.report("r2")
    history.entry(("commands", [deposit("a", 5, "last")]))  # stable, not yet published
    return history.records
