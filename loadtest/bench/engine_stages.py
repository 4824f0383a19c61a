"""The CPU cost of each stage of the engine, measured in this process on a run's own records."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import msgspec

from loadtest.kafka import temporary_topic
from loadtest.system import BenchSystem
from loadtest.workload.preload import Transfers
from postjournal.adapters.kafka.engine.lasting_errors import LastingErrors
from postjournal.adapters.kafka.engine.shard_log import KafkaLog
from postjournal.adapters.kafka.engine.sink import SinkWriter
from postjournal.adapters.process.gc_tuning import reduce_gc_frequency
from postjournal.adapters.process.wakeup import Wakeup
from postjournal.core import messages as m
from postjournal.core.fold import JournalState, next_digest
from postjournal.core.limits import Limits
from postjournal.core.records import Claim, Codec, Entry, SourceRecord
from postjournal.core.sharding import ShardPlace
from postjournal.core.state.state_machine import StateMachine
from postjournal.ledger import Accounts, Ledger, LedgerCommand, LedgerEvent

SHARD = 0
TIME_MS = 1_700_000_000_000
FETCH = "leader: fetch sources and journal (KafkaLog.poll)"
DECODE = "leader: decode commands"
DECIDE = "leader: decide, evolve, make and encode outputs (less decoding)"
ENCODE = "leader: encode entry (Codec.encode)"
DIGEST = "leader: hash of the own entry (next_digest)"
READ_BACK = "leader: read back (JournalState.fold, forget)"
PUBLISH = "leader: queue outputs (SinkWriter.write)"
STANDBY_DECODE = "standby: decode entry (Codec.decode)"
STANDBY_APPLY = "standby: fold, apply (JournalState.fold, StateMachine.apply)"

LedgerMachine = StateMachine[Accounts, LedgerCommand, LedgerEvent]


class StageCost(msgspec.Struct, frozen=True):
    """`micros`: CPU microseconds of the engine's thread per command."""

    name: str
    micros: float


class Stopwatch:
    """Adds up the CPU time of the calling thread, by stage."""

    def __init__(self) -> None:
        self._spent_ns: dict[str, int] = {}

    @contextmanager
    def on(self, stage: str) -> Iterator[None]:
        """Count the CPU time spent inside for `stage`."""
        started_ns = time.thread_time_ns()
        try:
            yield
        finally:
            spent = time.thread_time_ns() - started_ns
            self._spent_ns[stage] = self._spent_ns.get(stage, 0) + spent

    def costs(self, commands: int) -> list[StageCost]:
        """The cost of each stage per command, in the order of first use."""
        return [
            StageCost(stage, round(spent / 1000 / commands, 3))
            for stage, spent in self._spent_ns.items()
        ]


def measure_stages(system: BenchSystem, transfers: Transfers, commands: int) -> list[StageCost]:
    """Process the first `commands` transfers of a run again; the replicas must be idle."""
    reduce_gc_frequency()  # as a replica does: it is part of the cost of a command
    watch = Stopwatch()
    rows = _fetch(system, transfers.first_transfer + commands, watch)
    rows = rows[: transfers.first_transfer + commands]
    measured = len(rows) - transfers.first_transfer
    fetch = [StageCost(FETCH, cost.micros) for cost in watch.costs(len(rows))]
    with _engine(system) as engine:
        return fetch + engine.measure(rows, transfers.first_transfer, measured)


def _fetch(system: BenchSystem, count: int, watch: Stopwatch) -> list[SourceRecord]:
    """Read `count` records as a replica does: journal and sources with one consumer."""
    feed, rows = system.feed_topic, list[SourceRecord]()
    log = KafkaLog(system.kafka, system.topics, SHARD, Wakeup())
    end = time.monotonic() + 20
    try:
        log.open_journal(0)
        log.open_sources({})
        while len(rows) < count and time.monotonic() < end:
            with watch.on(FETCH):
                arrived = log.poll(2)
            for message in arrived:
                if isinstance(message, m.SourceRecords) and message.topic == feed:
                    rows += message.records
    finally:
        log.close()
    return rows


@contextmanager
def _engine(system: BenchSystem) -> Iterator[_Engine]:
    with ExitStack() as stack:
        writers = {}
        for sink in Ledger().sinks:
            prefix = system.topics.topic(f"bench-{sink}")
            topic = stack.enter_context(temporary_topic(system.kafka, prefix))
            writers[sink] = SinkWriter(system.kafka, sink, topic, SHARD, LastingErrors())
            stack.callback(writers[sink].close)
        yield _Engine(system.feed_topic, writers)


class _Engine:
    """A leader and a standby without Kafka: the same functions in the same order."""

    def __init__(self, feed: str, writers: dict[str, SinkWriter]) -> None:
        self._feed, self._writers = feed, writers
        self._limits = Limits()
        self._leader, self._standby = self._machine(), self._machine()
        self._journal, self._followed = _led_journal(), _led_journal()
        self._codec: Codec[LedgerEvent] = Codec(Ledger.event_type)
        self._decode = msgspec.json.Decoder(Ledger.command_type).decode
        self._digest, self._offset = self._journal.digest, 1
        self._arrived: deque[m.Message] = deque()

    def _machine(self) -> LedgerMachine:
        return StateMachine(Ledger(), ShardPlace(SHARD, 1), self._limits.dedupe_window)

    def measure(self, rows: list[SourceRecord], unmeasured: int, count: int) -> list[StageCost]:
        """The costs per command of all rows except the first `unmeasured` ones."""
        self._run(rows[:unmeasured], Stopwatch())
        watch = Stopwatch()
        self._run(rows[unmeasured:], watch)
        costs = {cost.name: cost.micros for cost in watch.costs(count)}
        costs[DECIDE] = round(costs[DECIDE] - costs[DECODE], 3)
        return [StageCost(name, micros) for name, micros in costs.items()]

    def _run(self, rows: list[SourceRecord], watch: Stopwatch) -> None:
        size = self._limits.batch_commands
        for start in range(0, len(rows), size):
            self._lead(rows[start : start + size], watch)

    def _lead(self, rows: list[SourceRecord], watch: Stopwatch) -> None:
        sent = self._leader.sink_ends()
        with watch.on(DECODE):
            for row in rows:
                self._decode(row[2] or b"")
        with watch.on(DECIDE):
            batch = self._leader.decide([(self._feed, rows)], TIME_MS)
        with watch.on(ENCODE):
            entry = self._entry(batch, sent)
            value = self._codec.encode(entry)
        with watch.on(DIGEST):
            self._digest = next_digest(self._digest, value)
        stored = bytes(bytearray(value))  # a copy, as the consumer returns
        with watch.on(READ_BACK):
            assert stored == value
            self._journal.fold(self._offset, entry, stored)
            self._leader.forget(self._journal.published)
        self._publish(sent, watch)
        self._follow(stored, watch)
        self._offset += 1

    def _entry(self, batch: tuple[object, ...], sent: dict[str, int]) -> Entry[LedgerEvent]:
        return Entry(
            epoch=1,
            seq=self._journal.next_seq,
            batch=batch,  # type: ignore[arg-type]
            sources=dict(self._leader.sources),
            sinks=self._leader.sink_ends(),
            published=sent,
            time=TIME_MS,
            digest_before=self._digest,
        )

    def _publish(self, sent: dict[str, int], watch: Stopwatch) -> None:
        for sink, writer in self._writers.items():
            outbox = self._leader.outboxes[sink]
            with watch.on(PUBLISH):
                for outputs in outbox.between(sent[sink], outbox.next_seq):
                    writer.write(outputs)
                writer.collect(self._arrived)
            self._arrived.clear()

    def _follow(self, stored: bytes, watch: Stopwatch) -> None:
        with watch.on(STANDBY_DECODE):
            record = self._codec.decode(stored)
        with watch.on(STANDBY_APPLY):
            self._followed.fold(self._offset, record, stored)
            assert isinstance(record, Entry)
            self._standby.apply(record)
            self._standby.forget(self._followed.published)


def _led_journal() -> JournalState:
    """A journal whose claim of epoch 1 is at offset 0."""
    journal, claim = JournalState(), Claim(1, "bench", "bench", "", -1)
    journal.fold(0, claim, b"")
    return journal
