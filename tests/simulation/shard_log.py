"""`ShardLog` over the broker in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from postjournal.core import messages as m
from postjournal.core.state.outbox import Outputs
from tests.simulation.broker import Reader, ShardTopics
from tests.simulation.event_loop import MS
from tests.simulation.journal_producers import ClaimProducer, JournalProducer
from tests.simulation.producers import JOURNAL, Deliver
from tests.simulation.sink_producer import SinkProducer

if TYPE_CHECKING:
    from tests.simulation.host import Host

T = TypeVar("T")


class LogObserver:
    """Called at the instant a process calls its log. This one does nothing."""

    def on_append(self, value: bytes) -> None:
        """The process appends an entry, a heartbeat or a resignation."""

    def on_claim(self, value: bytes) -> None:
        """The process appends a claim."""

    def on_publish(self, sink: str, outputs: Outputs, tail: int) -> None:
        """The process publishes; `tail` is the end of the sink as the log last reported it."""

    def on_delivered(self, message: m.Message) -> None:
        """The process receives a message."""

    def on_open(self, offset: int) -> None:
        """A new incarnation starts to read the journal."""


class SimShardLog:
    """One shard's partitions as one process sees them.

    Every effect goes through `Host.perform`, so that a pause or a kill can happen before it.
    """

    def __init__(
        self,
        host: Host,
        topics: ShardTopics,
        wake: Callable[[], None],
        observer: LogObserver | None = None,
    ) -> None:
        """Nothing is delivered before `open_journal`. `wake()`: messages can be polled."""
        self._observer = observer or LogObserver()
        self._tails: dict[str, int] = {}
        self._host, self._topics, self._wake = host, topics, wake
        self._loop = host.cluster.loop
        self._ready: list[m.Message] = []
        self._generation = 0
        self._sources_paused = False
        self._probes = self._latest_probe = 0
        self.failed_epoch = 0  # of the leadership whose failed append was reported last
        self.journal: Reader[bytes]
        self.journal = Reader(host, topics.journal, wake, self._on_trimmed, JOURNAL)
        self.sources = {
            name: Reader(host, partition, wake, topic=name)
            for name, partition in topics.sources.items()
        }
        self._stalled: set[str] = set()  # sources of which this was reported
        self.appends = JournalProducer(host, topics, self._make_deliver())
        self.claims = ClaimProducer(host, topics, self._make_deliver())
        self.sink_producers: dict[str, SinkProducer] = {}
        self._perform = host.perform

    def end(self) -> None:
        self._generation += 1
        self._ready.clear()
        self.journal.close()
        self._close_readers()

    # --- messages ---------------------------------------------------------------------------

    def poll(self, timeout_ms: int) -> Sequence[m.Message]:
        """Return the messages that are ready; virtual time does not pass meanwhile."""
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
            self._insert(arrived, read)
        if not self._sources_paused:
            for name, reader in self.sources.items():
                if reader.position < reader.visible:
                    _, sources = self._take(reader)
                    self._insert(arrived, m.SourceRecords(name, 0, sources))
        return arrived

    def _take(self, reader: Reader[T]) -> tuple[int, list[T]]:
        """Usually all that was fetched; in one of twenty polls a single record."""
        if self._loop.random.random() >= 0.05:
            return reader.take()
        self._wake()
        return reader.take(1)

    def _insert(self, arrived: list[m.Message], message: m.Message) -> None:
        """Messages that arrive by different connections are in any order."""
        if arrived and self._loop.random.random() < 0.5:
            arrived.insert(0, message)
        else:
            arrived.append(message)

    def _make_deliver(self) -> Deliver:
        """Return a function that delivers messages to the current incarnation only."""
        generation = self._generation

        def deliver(message: m.Message) -> None:
            if generation == self._generation:
                self._ready.append(message)
                self._wake()

        return deliver

    def deliver(self, message: m.Message) -> None:
        """For scenarios: deliver a message to the current incarnation."""
        self._make_deliver()(message)

    # --- the journal ------------------------------------------------------------------------

    def append(self, value: bytes) -> None:
        self._observer.on_append(value)
        self._perform("append", self._append, value)

    def _append(self, value: bytes) -> None:
        self._host.cluster.loop.trace(self._host.name, "appends %s", value.decode())
        self.appends.send(value)

    def forget_appends(self) -> None:
        self._perform("forget_appends", self._forget_appends)

    def _forget_appends(self) -> None:
        reports = (m.AppendAcknowledged, m.AppendFailed)
        self._ready = [message for message in self._ready if not isinstance(message, reports)]
        self.appends.forget_reports()
        if self.appends.has_failed:
            self._renew_appends()

    def _renew_appends(self) -> None:
        self.appends.abandon()
        self.appends = JournalProducer(self._host, self._topics, self._make_deliver())

    def append_claim(self, value: bytes) -> None:
        self._observer.on_claim(value)
        self._perform("append_claim", self._append_claim, value)

    def _append_claim(self, value: bytes) -> None:
        self._host.cluster.loop.trace(self._host.name, "claims %s", value.decode())
        self.claims.send(value)

    def purge_claims(self) -> None:
        self._perform("purge_claims", self.claims.purge)

    def probe_end(self, token: Any = None) -> None:
        """The broker reads the end at some instant between request and answer."""
        self._perform("probe_end", self._request_end, token)

    def _request_end(self, token: Any) -> None:
        self._probes += 1
        probe = (self._probes, token)
        self._loop.after(self._probe_us(), self._read_end, probe, self._make_deliver())

    def _read_end(self, probe: tuple[int, Any], deliver: Deliver) -> None:
        end: int | None = len(self._topics.journal.records)
        cluster, delay_us = self._host.cluster, self._probe_us()
        if not self._host.reachable:
            end, delay_us = None, self._loop.uniform(10 * MS, 300 * MS)
            cluster.coverage.hit("probes unanswered")
        elif self._loop.chance(cluster.fault_probability("probe_late")):
            delay_us = self._loop.uniform(20 * MS, 1_500 * MS)
            cluster.coverage.hit("probes answered late")
        self._loop.after(delay_us, self._deliver_end, probe, deliver, end)

    def _deliver_end(self, probe: tuple[int, Any], deliver: Deliver, end: int | None) -> None:
        number, token = probe
        if number < self._latest_probe:
            self._host.cluster.coverage.hit("probes answered out of order")
        self._latest_probe = max(self._latest_probe, number)
        deliver(m.JournalEnd(end, token))

    def on_connection_lost(self) -> None:
        """The client library may notice the lost connection and report an unknown end."""
        if self._loop.random.random() < 0.5:
            self._loop.after(self._probe_us(), self._make_deliver(), m.JournalEnd(None))

    def _probe_us(self) -> int:
        return self._loop.exponential(self._host.cluster.profile.probe_us)

    def rewind(self) -> None:
        self._perform("rewind", self._rewind)

    def _rewind(self) -> None:
        self._generation += 1
        self._ready.clear()
        self._renew_appends()
        self._close_sources()
        self._close_sinks()
        self.journal.close()

    def open_journal(self, offset: int) -> None:
        self._observer.on_open(offset)
        self._perform("open_journal", self.journal.open, offset)

    def _on_trimmed(self) -> None:
        self._host.cluster.coverage.hit("readers overtaken by trimming")
        self._make_deliver()(m.JournalTrimmed())

    # --- sources ----------------------------------------------------------------------------

    def open_sources(self, offsets: dict[str, int]) -> None:
        self._perform("open_sources", self._open_sources, dict(offsets))

    def _open_sources(self, offsets: dict[str, int]) -> None:
        self._close_sources()
        for name, reader in self.sources.items():
            reader.open(offsets.get(name, 0))
            self._watch(name, self._make_deliver())

    def _watch(self, name: str, deliver: Deliver) -> None:
        """Look again after the time in which a source that it does not reach is noticed."""
        position = self.sources[name].position
        delay_us = self._host.cluster.profile.limits.stall_ms * MS
        self._loop.after(delay_us, self._look, name, position, deliver)

    def _look(self, name: str, position: int, deliver: Deliver) -> None:
        reader, host = self.sources[name], self._host
        if not reader.is_open or host.life_of(self._topics.shard) is None:
            self._stalled.discard(name)
            return
        is_stalled = reader.position == position and not self._sources_paused
        if is_stalled and not host.reaches(name) and host.paused_until_us is None:
            self._stalled.add(name)
            deliver(m.SourceStalled(name, "no record arrives"))
        elif name in self._stalled:
            self._stalled.discard(name)
            deliver(m.SourceStalled(name, None))
        self._watch(name, deliver)

    def pause_sources(self) -> None:
        self._host.cluster.coverage.hit("sources paused")
        self._perform("pause_sources", self._set_sources_paused, True)

    def resume_sources(self) -> None:
        self._perform("resume_sources", self._set_sources_paused, False)

    def _set_sources_paused(self, paused: bool) -> None:
        self._sources_paused = paused
        self._wake()

    def close_sources(self) -> None:
        self._perform("close_sources", self._close_sources)

    def _close_sources(self) -> None:
        self._sources_paused = False
        self._ready = [message for message in self._ready if type(message) is not m.SourceRecords]
        self._close_readers()

    def _close_readers(self) -> None:
        for reader in self.sources.values():
            reader.close()

    # --- sinks ------------------------------------------------------------------------------

    def open_sink(self, sink: str) -> None:
        """The tail is read at some instant between request and answer."""
        self._perform("open_sink", self._open_sink, sink)

    def _open_sink(self, sink: str) -> None:
        self._abandon_sink(sink)
        producer = SinkProducer(self._host, self._topics, sink, self._make_deliver())
        self.sink_producers[sink] = producer
        self._loop.after(self._probe_us(), self._read_tail, sink, producer, self._make_deliver())

    def _read_tail(self, sink: str, producer: SinkProducer, deliver: Deliver) -> None:
        if producer.sender_exited or producer.abandoned:
            return
        if not self._host.reaches(sink):
            self._host.when_reachable(self._read_tail, sink, producer, deliver)
            return
        tail = m.SinkTail(sink, self._topics.sinks[sink].tail)
        self._loop.after(self._probe_us(), self._deliver_tail, producer, deliver, tail)

    def _deliver_tail(self, producer: SinkProducer, deliver: Deliver, tail: m.SinkTail) -> None:
        if not producer.abandoned:
            self._tails[tail.sink] = tail.next_seq
            deliver(tail)

    def _abandon_sink(self, sink: str) -> None:
        producer = self.sink_producers.pop(sink, None)
        if producer is not None:
            producer.abandon()
        self._ready = [message for message in self._ready if getattr(message, "sink", None) != sink]

    def publish(self, sink: str, outputs: Outputs) -> None:
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
        """Split the outputs into one or two requests."""
        if count < 2 or self._loop.random.random() < 0.5:
            return [(0, count)]
        cut = self._loop.random.randint(1, count - 1)
        return [(0, cut), (cut, count)]

    def close_sinks(self) -> None:
        self._perform("close_sinks", self._close_sinks)

    def _close_sinks(self) -> None:
        for sink in list(self.sink_producers):
            self._abandon_sink(sink)
