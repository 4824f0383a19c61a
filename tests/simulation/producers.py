"""Producers: what is on its way from a process to the broker.

A request departs (leaves the process), arrives at the broker, lands in its partition and is
acknowledged. In order, unless a fault says otherwise; a request that cannot arrive holds up those
behind it, as an idempotent producer does.
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
"""Topics for which a broker may refuse to take anything, though they can be read."""


class Request(Generic[V]):
    """One request; `ticket` makes events of an earlier launch void."""

    __slots__ = ("arrives_us", "asked_us", "departs_us", "generation", "ticket", "value")

    def __init__(self, value: V, asked_us: int, generation: int) -> None:
        """Not launched yet."""
        self.value = value
        self.asked_us = asked_us
        self.generation = generation
        self.departs_us = self.arrives_us = self.ticket = 0


class SimProducer(Generic[V]):
    """The common course of requests. Subclasses say what landing is."""

    TO: ClassVar[str]
    """Which topics: `SimulatedCluster.refusing` may name them."""

    def __init__(self, host: Host, topics: ShardTopics, tell: Deliver) -> None:
        """`tell(message)` puts a message before the process that sent the requests."""
        self._host, self._topics, self._deliver = host, topics, tell
        self._life = host.life
        self._loop, self._coverage = host.cluster.loop, host.cluster.coverage
        self._last_departs_us = self._last_arrives_us = self._last_told_us = 0
        self._stalled = False
        self.queue: deque[Request[V]] = deque()
        self.held = False
        self.abandoned = False
        self.generation = 0  # requests of an earlier one are not reported
        host.producers.append(self)

    @property
    def gone(self) -> bool:
        """Whether the process that sent these requests is dead."""
        return not self._host.alive or self._host.life != self._life

    def hold(self) -> None:
        """For scenarios: nothing arrives until `release`, even if the process dies."""
        self.held = True

    def release(self) -> None:
        """Things arrive again."""
        self.held = False
        self.unstall()

    def send(self, value: V) -> None:
        """Put a request behind those that are under way."""
        request = Request(value, self._loop.now_us, self.generation)
        self.queue.append(request)
        if not self._stalled:
            self._launch(request)

    def forget(self) -> None:
        """Deliver nothing of what was sent so far."""
        self.generation += 1

    def abandon(self) -> None:
        """Deliver no more; drop what has not left the process. What has may land much later."""
        self.abandoned = True
        self.drop_undeparted()
        self.on_pause()

    def drop_undeparted(self) -> int:
        """Forget what has not left the process; returns how many that were."""
        now_us, before = self._loop.now_us, len(self.queue)
        kept = [r for r in self.queue if not self._stalled and r.departs_us <= now_us]
        if not self.held:
            self.queue = deque(kept)
        return before - len(self.queue)

    def on_death(self) -> None:
        """The process died: what has left it may land, perhaps much later, or be lost."""
        if self.held:
            return
        self._on_dropped(self.drop_undeparted())
        self._lose_at_crash(self._host.cluster.fault_probability("lost_at_crash"))
        self.on_pause()

    def on_pause(self) -> None:
        """What has left the process may land much later."""
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
        """A request of a dead process did not reach the broker."""

    def _on_dropped(self, count: int) -> None:
        """So many had not left the process when it died."""

    def _tell(self, delay_us: int, generation: int, message: m.Message) -> None:
        """Deliver the process in order, unless it is gone or does not want to know."""
        self._last_told_us = max(self._loop.now_us + delay_us, self._last_told_us)
        self._loop.at(self._last_told_us, self._told, generation, message)

    def _told(self, generation: int, message: m.Message) -> None:
        if self.abandoned or self.gone or generation != self.generation:
            return
        if self._host.reachable:
            self._deliver(message)
        else:
            self._host.when_reachable(self._told, generation, message)

    # --- the course of a request ------------------------------------------------------------

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
            self._on_lost()  # there is nobody any more who would send it again

    def _must_wait(self, request: Request[V]) -> bool:
        host = self._host
        if self.held:
            return True
        if self.gone:
            return False
        if host.paused_until_us is not None and request.departs_us > host.paused_at_us:
            host.when_running(self.unstall)
            return True
        if not host.reachable:
            host.when_reachable(self.unstall)
            return True
        return self._is_refused()  # then `SimulatedCluster` unstalls it at the end of that

    def _is_refused(self) -> bool:
        return self._host.muted or self.TO in self._host.cluster.refusing

    def unstall(self) -> None:
        """Send again what waits."""
        if self._stalled:
            self._stalled = False
            for request in self.queue:
                self._launch(request)
