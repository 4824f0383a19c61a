"""`ShardLog` over the broker in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from postjournal.core import messages as m
from postjournal.core.state.outbox import Outputs
from tests.simulation.broker import Reader, ShardTopics
from tests.simulation.event_loop import MS
from tests.simulation.journal_producers import ClaimProducer, JournalProducer
from tests.simulation.producers import Deliver
from tests.simulation.sink_producer import SinkProducer

if TYPE_CHECKING:
    from tests.simulation.host import Host

T = TypeVar("T")


class LogObserver:
    """Sees what a process asks of its log, at the instant of asking. This one does not care."""

    def on_append(self, value: bytes) -> None:
        """An entry, a heartbeat, a resignation."""

    def on_claim(self, value: bytes) -> None:
        """A claim."""

    def on_publish(self, sink: str, outputs: Outputs, tail: int) -> None:
        """Outputs; `tail` is what the log said last about the end of the sink."""

    def on_delivered(self, message: m.Message) -> None:
        """The process is handed a message."""

    def on_open(self, offset: int) -> None:
        """A new incarnation begins to read the journal."""


class SimShardLog:
    """One shard's partitions as one process sees them.

    Every effect goes through `Host.perform`, so that a pause or a kill can fault before it.
    """

    def __init__(
        self,
        host: Host,
        topics: ShardTopics,
        wake: Callable[[], None],
        observer: LogObserver | None = None,
    ) -> None:
        """Delivers nothing before `open_journal`. `wake`: something is ready."""
        self._observer = observer or LogObserver()
        self._tails: dict[str, int] = {}
        self._host, self._topics, self._wake = host, topics, wake
        self._loop = host.cluster.loop
        self._ready: list[m.Message] = []
        self._generation = 0
        self._held = False
        self._probes = self._probe_told = 0
        self.failed_epoch = 0  # of the leadership whose append failed last, as it has been told
        self.journal: Reader[bytes] = Reader(host, topics.journal, wake, self._on_trimmed)
        self.sources = {
            name: Reader(host, partition, wake) for name, partition in topics.sources.items()
        }
        self.appends = JournalProducer(host, topics, self._delivery())
        self.claims = ClaimProducer(host, topics, self._delivery())
        self.sink_producers: dict[str, SinkProducer] = {}
        self._perform = host.perform

    def end(self) -> None:
        """The process is gone."""
        self._generation += 1
        self._ready.clear()
        self.journal.close()
        self._close_readers()

    # --- messages ---------------------------------------------------------------------------

    def poll(self, timeout_ms: int) -> Sequence[m.Message]:
        """What is ready. Virtual time does not pass in here: the cluster turns when it has."""
        arrived, self._ready = self._ready, []
        for message in arrived:
            self._observer.on_delivered(message)
            if type(message) is m.AppendFailed:
                self.failed_epoch = int(message.error.rsplit(" ", 1)[1])
        if self.journal.position < self.journal.visible:
            first, values = self._take(self.journal)
            records = list(zip(range(first, first + len(values)), values, strict=True))
            read = m.JournalRecords(records)
            self._observer.on_delivered(read)
            self._place(arrived, read)
        if not self._held:
            for name, reader in self.sources.items():
                if reader.position < reader.visible:
                    _, sources = self._take(reader)
                    self._place(arrived, m.SourceRecords(name, 0, sources))
        return arrived

    def _take(self, reader: Reader[T]) -> tuple[int, list[T]]:
        """Nearly always all that was fetched; sometimes more is left than fits into a poll."""
        if self._loop.random.random() >= 0.05:
            return reader.take()
        self._wake()
        return reader.take(1)

    def _place(self, arrived: list[m.Message], message: m.Message) -> None:
        """What comes by different ways comes in any order."""
        if arrived and self._loop.random.random() < 0.5:
            arrived.insert(0, message)
        else:
            arrived.append(message)

    def _delivery(self) -> Deliver:
        """Puts messages before the incarnation that asks now, and before no later one."""
        generation = self._generation

        def tell(message: m.Message) -> None:
            if generation == self._generation:
                self._ready.append(message)
                self._wake()

        return tell

    # --- the journal ------------------------------------------------------------------------

    def append(self, value: bytes) -> None:
        """See `ShardLog`."""
        self._observer.on_append(value)
        self._perform("append", self._append, value)

    def _append(self, value: bytes) -> None:
        self._host.cluster.loop.trace(self._host.name, "appends %s", value.decode())
        self.appends.send(value)

    def forget_appends(self) -> None:
        """See `ShardLog`."""
        self._perform("forget_appends", self._forget_appends)

    def _forget_appends(self) -> None:
        reports = (m.AppendAcknowledged, m.AppendFailed)
        self._ready = [each for each in self._ready if not isinstance(each, reports)]
        self.appends.forget()
        if self.appends.has_failed:
            self._renew_appends()

    def _renew_appends(self) -> None:
        self.appends.abandon()
        self.appends = JournalProducer(self._host, self._topics, self._delivery())

    def append_claim(self, value: bytes) -> None:
        """See `ShardLog`."""
        self._observer.on_claim(value)
        self._perform("append_claim", self._append_claim, value)

    def _append_claim(self, value: bytes) -> None:
        self._host.cluster.loop.trace(self._host.name, "claims %s", value.decode())
        self.claims.send(value)

    def purge_claims(self) -> None:
        """See `ShardLog`."""
        self._perform("purge_claims", self.claims.purge)

    def probe_end(self, token: Any = None) -> None:
        """See `ShardLog`. The broker looks at some instant between question and answer."""
        self._perform("probe_end", self._ask_end, token)

    def _ask_end(self, token: Any) -> None:
        self._probes += 1
        probe = (self._probes, token)
        self._loop.after(self._probe_us(), self._look_at_end, probe, self._delivery())

    def _look_at_end(self, probe: tuple[int, Any], tell: Deliver) -> None:
        end: int | None = len(self._topics.journal.records)
        cluster, delay_us = self._host.cluster, self._probe_us()
        if not self._host.reachable:
            end, delay_us = None, self._loop.uniform(10 * MS, 300 * MS)
            cluster.coverage.hit("probes unanswered")
        elif self._loop.chance(cluster.fault_probability("probe_late")):
            delay_us = self._loop.uniform(20 * MS, 1_500 * MS)
            cluster.coverage.hit("probes answered late")
        self._loop.after(delay_us, self._tell_end, probe, tell, end)

    def _tell_end(self, probe: tuple[int, Any], tell: Deliver, end: int | None) -> None:
        number, token = probe
        if number < self._probe_told:
            self._host.cluster.coverage.hit("probes answered out of order")
        self._probe_told = max(self._probe_told, number)
        tell(m.JournalEnd(end, token))

    def on_connection_lost(self) -> None:
        """The client library notices, sometimes: an end that nobody asked for."""
        if self._loop.random.random() < 0.5:
            self._loop.after(self._probe_us(), self._delivery(), m.JournalEnd(None))

    def _probe_us(self) -> int:
        return self._loop.exponential(self._host.cluster.profile.probe_us)

    def rewind(self) -> None:
        """See `ShardLog`."""
        self._perform("rewind", self._rewind)

    def _rewind(self) -> None:
        self._generation += 1
        self._ready.clear()
        self._renew_appends()
        self._close_sources()
        self._close_sinks()
        self.journal.close()

    def open_journal(self, offset: int) -> None:
        """See `ShardLog`."""
        self._observer.on_open(offset)
        self._perform("open_journal", self.journal.open, offset)

    def _on_trimmed(self) -> None:
        self._host.cluster.coverage.hit("readers overtaken by trimming")
        self._delivery()(m.JournalTrimmed())

    # --- sources ----------------------------------------------------------------------------

    def open_sources(self, offsets: dict[str, int]) -> None:
        """See `ShardLog`."""
        self._perform("open_sources", self._open_sources, dict(offsets))

    def _open_sources(self, offsets: dict[str, int]) -> None:
        self._close_sources()
        for name, reader in self.sources.items():
            reader.open(offsets.get(name, 0))

    def pause_sources(self) -> None:
        """See `ShardLog`."""
        self._host.cluster.coverage.hit("sources paused")
        self._perform("pause_sources", self._set_held, True)

    def resume_sources(self) -> None:
        """See `ShardLog`."""
        self._perform("resume_sources", self._set_held, False)

    def _set_held(self, held: bool) -> None:
        self._held = held
        self._wake()

    def close_sources(self) -> None:
        """See `ShardLog`."""
        self._perform("close_sources", self._close_sources)

    def _close_sources(self) -> None:
        self._held = False
        self._ready = [each for each in self._ready if type(each) is not m.SourceRecords]
        self._close_readers()

    def _close_readers(self) -> None:
        for reader in self.sources.values():
            reader.close()

    # --- sinks ------------------------------------------------------------------------------

    def open_sink(self, sink: str) -> None:
        """See `ShardLog`. The tail is read at some instant between question and answer."""
        self._perform("open_sink", self._open_sink, sink)

    def _open_sink(self, sink: str) -> None:
        self._abandon_sink(sink)
        producer = SinkProducer(self._host, self._topics, sink, self._delivery())
        self.sink_producers[sink] = producer
        self._loop.after(self._probe_us(), self._read_tail, sink, producer, self._delivery())

    def _read_tail(self, sink: str, producer: SinkProducer, tell: Deliver) -> None:
        if producer.gone or producer.abandoned:
            return
        if not self._host.reachable:
            self._host.when_reachable(self._read_tail, sink, producer, tell)
            return
        tail = m.SinkTail(sink, self._topics.sinks[sink].tail)
        self._loop.after(self._probe_us(), self._tell_tail, producer, tell, tail)

    def _tell_tail(self, producer: SinkProducer, tell: Deliver, tail: m.SinkTail) -> None:
        if not producer.abandoned:
            self._tails[tail.sink] = tail.next_seq
            tell(tail)

    def _abandon_sink(self, sink: str) -> None:
        producer = self.sink_producers.pop(sink, None)
        if producer is not None:
            producer.abandon()
        self._ready = [each for each in self._ready if getattr(each, "sink", None) != sink]

    def publish(self, sink: str, outputs: Outputs) -> None:
        """See `ShardLog`."""
        self._observer.on_publish(sink, outputs, self._tails[sink])
        self._perform("publish", self._publish, sink, outputs)

    def _publish(self, sink: str, outputs: Outputs) -> None:
        self._host.cluster.loop.trace(
            self._host.name, "publishes %s %d..%d", sink, outputs.first, outputs.end - 1
        )
        producer = self.sink_producers[sink]
        for start, end in self._requests(len(outputs.values)):
            producer.send(outputs.between(outputs.first + start, outputs.first + end))

    def _requests(self, count: int) -> list[tuple[int, int]]:
        """One or two requests: as it comes."""
        if count < 2 or self._loop.random.random() < 0.5:
            return [(0, count)]
        cut = self._loop.random.randint(1, count - 1)
        return [(0, cut), (cut, count)]

    def close_sinks(self) -> None:
        """See `ShardLog`."""
        self._perform("close_sinks", self._close_sinks)

    def _close_sinks(self) -> None:
        for sink in list(self.sink_producers):
            self._abandon_sink(sink)
