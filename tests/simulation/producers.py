"""Producers: the requests on their way from a host to the broker.

A request departs (leaves the host), arrives at the broker, lands in its partition and is
acknowledged. Requests stay in order unless a fault reorders them; a request that cannot arrive
blocks those behind it, as with an idempotent producer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from postjournal.core import messages as m
from tests.simulation.broker import ShardTopics
from tests.simulation.event_loop import MS

if TYPE_CHECKING:
    from tests.simulation.host import Host

V = TypeVar("V")
Deliver = Callable[[m.Message], None]

JOURNAL, SINK = "journal", "sink"
"""Kinds of topics whose appends `SimulatedCluster.refusing` can reject."""


class Request(Generic[V]):
    """One request; incrementing `ticket` invalidates the events scheduled for it."""

    __slots__ = ("arrives_us", "departs_us", "generation", "sent_us", "ticket", "value")

    def __init__(self, value: V, sent_us: int, generation: int) -> None:
        self.value = value
        self.sent_us = sent_us
        self.generation = generation
        self.departs_us = self.arrives_us = self.ticket = 0


class SimProducer(Generic[V]):
    """The path of requests to the broker. Subclasses define what landing does."""

    TO: ClassVar[str]
    """The kind of topics: JOURNAL or SINK."""

    def __init__(self, host: Host, topics: ShardTopics, deliver: Deliver) -> None:
        """`deliver(message)` delivers a report to the process that sent the request."""
        self._host, self._topics, self._deliver = host, topics, deliver
        self._life = host.life_of(topics.shard)
        self._loop, self._coverage = host.cluster.loop, host.cluster.coverage
        self._last_departs_us = self._last_arrives_us = self._last_report_us = 0
        self._stalled = False
        self.queue: deque[Request[V]] = deque()
        self.held = False
        self.abandoned = False
        self.generation = 0  # requests of an earlier generation are not reported
        host.producers.append(self)

    @property
    def shard(self) -> int:
        return self._topics.shard

    @property
    def sender_exited(self) -> bool:
        """Whether the engine that sent these requests has exited."""
        return self._host.life_of(self._topics.shard) != self._life

    def hold(self) -> None:
        """For scenarios: block all arrivals until `release`, even if the process exits."""
        self.held = True

    def release(self) -> None:
        self.held = False
        self.resume()

    def send(self, value: V) -> None:
        """Queue a request behind those in flight."""
        request = Request(value, self._loop.now_us, self.generation)
        self.queue.append(request)
        if not self._stalled:
            self._launch(request)

    def forget_reports(self) -> None:
        """Report nothing about the requests sent so far."""
        self.generation += 1

    def abandon(self) -> None:
        """Report nothing more and drop what has not departed; the rest may land much later."""
        self.abandoned = True
        self.drop_undeparted()
        self.on_pause()

    def drop_undeparted(self) -> int:
        """Drop the requests that have not departed; return how many."""
        now_us, before = self._loop.now_us, len(self.queue)
        remaining = [r for r in self.queue if not self._stalled and r.departs_us <= now_us]
        if not self.held:
            self.queue = deque(remaining)
        return before - len(self.queue)

    def on_death(self) -> None:
        """The process died: departed requests may land, perhaps much later, or be lost."""
        if self.held:
            return
        self._on_dropped(self.drop_undeparted())
        self._lose_at_crash(self._host.cluster.fault_probability("lost_at_crash"))
        self.on_pause()

    def on_pause(self) -> None:
        """Departed requests may land much later."""
        if not self.queue or not self._loop.chance(
            self._host.cluster.fault_probability("zombie_delay")
        ):
            return
        late_us = self._loop.uniform(20 * MS, 2_000 * MS)
        for request in self.queue:
            self._arrive_at(request, max(request.arrives_us, self._loop.now_us) + late_us)

    # --- for subclasses ---------------------------------------------------------------------

    def _mean_us(self) -> int:
        raise NotImplementedError

    def _land(self, request: Request[V]) -> None:
        raise NotImplementedError

    def _lose_at_crash(self, probability: float) -> None:
        raise NotImplementedError

    def _on_lost(self) -> None:
        """A request of an exited process did not reach the broker."""

    def _on_dropped(self, count: int) -> None:
        """`count` requests had not departed when the process died."""

    def _report(self, delay_us: int, generation: int, message: m.Message) -> None:
        """Deliver a report, in order, unless the process has exited or ignores it."""
        self._last_report_us = max(self._loop.now_us + delay_us, self._last_report_us)
        self._loop.at(self._last_report_us, self._deliver_report, generation, message)

    def _deliver_report(self, generation: int, message: m.Message) -> None:
        if self.abandoned or self.sender_exited or generation != self.generation:
            return
        if self._host.reachable:
            self._deliver(message)
        else:
            self._host.when_reachable(self._deliver_report, generation, message)

    # --- the path of a request --------------------------------------------------------------

    def _launch(self, request: Request[V]) -> None:
        loop = self._loop
        departs_us = loop.now_us + (loop.exponential(100) if loop.random.random() < 0.5 else 0)
        request.departs_us = self._last_departs_us = max(departs_us, self._last_departs_us)
        self._arrive_at(request, request.departs_us + loop.exponential(self._mean_us()))

    def _arrive_at(self, request: Request[V], time_us: int) -> None:
        request.arrives_us = self._last_arrives_us = max(time_us, self._last_arrives_us)
        request.ticket += 1
        self._loop.at(request.arrives_us, self._arrived, request, request.ticket)

    def _arrived(self, request: Request[V], ticket: int) -> None:
        if ticket != request.ticket or self._stalled or request not in self.queue:
            return
        if self._must_wait(request):
            self._stalled = True
            return
        assert self.queue[0] is request, "requests arrive in order"
        self.queue.popleft()
        if self._host.reachable and not self._is_refused():
            self._land(request)
        else:
            self._on_lost()  # the process that would retry has exited

    def _must_wait(self, request: Request[V]) -> bool:
        host = self._host
        if self.held:
            return True
        if self.sender_exited:
            return False
        if host.paused_until_us is not None and request.departs_us > host.paused_at_us:
            host.when_running(self.resume)
            return True
        if not host.reachable:
            host.when_reachable(self.resume)
            return True
        return self._is_refused()  # `set_muted` and `set_refusing` resume it

    def _is_refused(self) -> bool:
        return self._host.muted or self.TO in self._host.cluster.refusing

    def resume(self) -> None:
        """Send the waiting requests again."""
        if self._stalled:
            self._stalled = False
            for request in self.queue:
                self._launch(request)
