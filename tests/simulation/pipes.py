"""Producers: what is on its way from a process to the broker.

A request departs (leaves the process), arrives at the broker, lands in its partition and is
acknowledged. In order, unless a fault says otherwise; a request that cannot arrive holds up those
behind it, as an idempotent producer does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from postjournal.core import messages as m
from postjournal.core.outbox import Outputs
from tests.simulation.broker import ShardTopics, SinkTopic
from tests.simulation.kernel import MS
from tests.simulation.reference import parsed

if TYPE_CHECKING:
    from tests.simulation.host import Host

V = TypeVar("V")
Tell = Callable[[m.Message], None]

LOST, UNACKNOWLEDGED, TWICE = "lost", "unacknowledged", "twice"
"""Fates of an append that a scenario may ask for."""

CLAIM_TIMEOUT_US = 300 * MS


class Request(Generic[V]):
    """One request; `ticket` makes events of an earlier launch void."""

    __slots__ = ("arrives_us", "asked_us", "departs_us", "ticket", "value")

    def __init__(self, value: V, asked_us: int) -> None:
        """Not launched yet."""
        self.value = value
        self.asked_us = asked_us
        self.departs_us = self.arrives_us = self.ticket = 0


class Pipe(Generic[V]):
    """The common course of requests. Subclasses say what landing is."""

    def __init__(self, host: Host, topics: ShardTopics, tell: Tell) -> None:
        """`tell(message)` puts a message before the process that sent the requests."""
        self._host, self._topics, self._tell_now = host, topics, tell
        self._life = host.life
        self._kernel, self._coverage = host.world.kernel, host.world.coverage
        self._last_departs_us = self._last_arrives_us = self._last_told_us = 0
        self._stalled = False
        self.queue: deque[Request[V]] = deque()
        self.held = False
        self.silenced = False
        host.pipes.append(self)

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
        self._unstall()

    def send(self, value: V) -> None:
        """Put a request behind those that are under way."""
        request = Request(value, self._kernel.now_us)
        self.queue.append(request)
        if not self._stalled:
            self._launch(request)

    def silence(self) -> None:
        """Tell no more; drop what has not left the process."""
        self.silenced = True
        self.drop_undeparted()

    def drop_undeparted(self) -> int:
        """Forget what has not left the process; returns how many that were."""
        now_us, before = self._kernel.now_us, len(self.queue)
        kept = [r for r in self.queue if not self._stalled and r.departs_us <= now_us]
        if not self.held:
            self.queue = deque(kept)
        return before - len(self.queue)

    def on_death(self) -> None:
        """The process died: what has left it may land, perhaps much later, or be lost."""
        if self.held:
            return
        self._on_dropped(self.drop_undeparted())
        self._lose_at_crash(self._host.world.danger("lost_at_crash"))
        self.on_pause()

    def on_pause(self) -> None:
        """What has left the process may land much later."""
        if not self.queue or not self._kernel.chance(self._host.world.danger("zombie_delay")):
            return
        late_us = self._kernel.between(20 * MS, 2_000 * MS)
        for request in self.queue:
            self._arrive_at(request, max(request.arrives_us, self._kernel.now_us) + late_us)

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

    def _tell(self, delay_us: int, message: m.Message) -> None:
        """Tell the process in order, unless it is gone or does not want to know."""
        self._last_told_us = max(self._kernel.now_us + delay_us, self._last_told_us)
        self._kernel.at(self._last_told_us, self._told, message)

    def _told(self, message: m.Message) -> None:
        if self.silenced or self.gone:
            return
        if self._host.reachable:
            self._tell_now(message)
        else:
            self._host.when_reachable(self._told, message)

    # --- the course of a request ------------------------------------------------------------

    def _launch(self, request: Request[V]) -> None:
        kernel = self._kernel
        departs_us = kernel.now_us + (kernel.spread(100) if kernel.random.random() < 0.5 else 0)
        request.departs_us = self._last_departs_us = max(departs_us, self._last_departs_us)
        self._arrive_at(request, request.departs_us + kernel.spread(self._mean_us()))

    def _arrive_at(self, request: Request[V], time_us: int) -> None:
        request.arrives_us = self._last_arrives_us = max(time_us, self._last_arrives_us)
        request.ticket += 1
        self._kernel.at(request.arrives_us, self._arrived, request, request.ticket)

    def _arrived(self, request: Request[V], ticket: int) -> None:
        if ticket != request.ticket or self._stalled or request not in self.queue:
            return
        if self._must_wait(request):
            self._stalled = True
            return
        assert self.queue[0] is request, "requests arrive in order"
        self.queue.popleft()
        if self._host.reachable:
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
            host.when_running(self._unstall)
            return True
        if not host.reachable:
            host.when_reachable(self._unstall)
            return True
        return False

    def _unstall(self) -> None:
        self._stalled = False
        for request in self.queue:
            self._launch(request)


class JournalPipe(Pipe[bytes]):
    """Entries, heartbeats, resignations."""

    def __init__(self, host: Host, topics: ShardTopics, tell: Tell) -> None:
        """See `Pipe`."""
        super().__init__(host, topics, tell)
        self.fates: deque[str] = deque()  # of the next appends to arrive: for scenarios
        self.slowest_failure_us = 1_200 * MS
        self._lost = False

    def send(self, value: bytes) -> None:
        """Rarely overtakes the one before: that is what idempotence prevents."""
        super().send(value)
        queue = self.queue
        if len(queue) > 1 and self._kernel.chance(self._host.world.danger("append_swapped")):
            queue[-1].value, queue[-2].value = queue[-2].value, queue[-1].value
            self._coverage.hit("appends out of order")

    def _mean_us(self) -> int:
        return self._host.append_us

    def _land(self, request: Request[bytes]) -> None:
        fate = self.fates.popleft() if self.fates else self._draw_fate()
        if fate == LOST:
            self._lost = True
            self._coverage.hit("appends lost")
            self._fail("lost", request.value)
            return
        self._topics.journal.land(request.value)
        self._count_landing(fate)
        if fate == UNACKNOWLEDGED:
            self._fail("no acknowledgement came", request.value)
            return
        if fate == TWICE:
            mean_us = self._kernel.random.choice((5, 50, 300)) * MS
            self._kernel.after(self._kernel.spread(mean_us), self._land_again, request.value)
        self._tell(self._kernel.spread(self._host.ack_us), m.AppendLanded(1))

    def _draw_fate(self) -> str:
        """Of what is lost: the producer gave it up. It then goes on, as a new one would."""
        world, chance = self._host.world, self._kernel.chance
        for fate in (LOST, UNACKNOWLEDGED, TWICE):
            if chance(world.danger(f"append_{fate}")):
                return fate
        return "landed"

    def _count_landing(self, fate: str) -> None:
        hit = self._coverage.hit
        if self._lost:
            hit("appends lost, a later one landed")
        if self.gone:
            hit("zombie appends after death")
        if fate == UNACKNOWLEDGED:
            hit("indeterminate appends that landed")

    def _land_again(self, value: bytes) -> None:
        if self._host.reachable:
            self._topics.journal.land(value)
            self._coverage.hit("appends landed twice")

    def _fail(self, error: str, value: bytes) -> None:
        """The error's last word is the epoch of the record: for the audit."""
        record = parsed(value)
        epoch = record["epoch"] if isinstance(record, dict) else 0
        delay_us = self._kernel.between(MS, self.slowest_failure_us)
        self._tell(delay_us, m.AppendFailed(f"{error}, epoch {epoch}"))

    def _lose_at_crash(self, probability: float) -> None:
        kept = [r for r in self.queue if not self._kernel.chance(probability)]
        self._on_dropped(len(self.queue) - len(kept))
        self.queue = deque(kept)

    def _on_dropped(self, count: int) -> None:
        self._coverage.hit("appends dropped at a crash", count)


class ClaimPipe(Pipe[bytes]):
    """Claims: worth something only soon; never answered."""

    def send(self, value: bytes) -> None:
        """Some are slow."""
        super().send(value)
        if not self._stalled and self._kernel.chance(self._host.world.danger("claim_late")):
            late_us = self._kernel.between(MS, CLAIM_TIMEOUT_US)
            self._arrive_at(self.queue[-1], self.queue[-1].arrives_us + late_us)
            self._coverage.hit("claims landed late")

    def purge(self) -> None:
        """Drop what has not left the process."""
        self._coverage.hit("claims purged", self.drop_undeparted())

    def _mean_us(self) -> int:
        return self._host.append_us

    def _land(self, request: Request[bytes]) -> None:
        age_us = self._kernel.now_us - request.asked_us
        if age_us > CLAIM_TIMEOUT_US and self._kernel.random.random() < 0.7:
            return  # timed out; what had just been sent is sometimes found to have landed
        if self._kernel.chance(self._host.world.danger("claim_lost")):
            self._coverage.hit("claims lost")
            return
        self._topics.journal.land(request.value)

    def _lose_at_crash(self, probability: float) -> None:
        self.queue = deque(r for r in self.queue if not self._kernel.chance(probability))


class SinkPipe(Pipe[Outputs]):
    """One producer of one sink: idempotent, so what lands is a prefix of what was sent.

    But its very first request may be lost while the second lands: the broker knows nothing yet
    of where this producer's sequence begins.
    """

    def __init__(self, host: Host, topics: ShardTopics, sink: str, tell: Tell) -> None:
        """See `Pipe`."""
        super().__init__(host, topics, tell)
        self._sink = sink
        self._topic: SinkTopic = topics.sinks[sink]
        self._topic.publisher = self
        self._established = self._broken = self._failed = False

    def _mean_us(self) -> int:
        return self._host.publish_us

    def _land(self, request: Request[Outputs]) -> None:
        outputs = request.value
        if self._broken:
            return
        if self._kernel.chance(self._host.world.danger("publish_fails")) and not self._failed:
            self._fail(outputs)
            return
        self._append(outputs)
        self._established = True
        published = m.Published(self._sink, outputs.end)
        if not self._failed:
            self._tell(self._kernel.spread(self._host.ack_us), published)

    def _fail(self, outputs: Outputs) -> None:
        """From somewhere in this request on nothing lands; or, of the first, only it does not."""
        self._failed = True
        self._coverage.hit("sink failures")
        if self._established:
            landing = self._kernel.random.randint(0, len(outputs.values))
            if landing:
                self._append(outputs.between(outputs.first, outputs.first + landing))
                self._coverage.hit("sink failures with a prefix landed")
            self._broken = True
        error = m.PublishFailed(self._sink, "the producer failed")
        self._tell(self._kernel.between(MS, 500 * MS), error)

    def _append(self, outputs: Outputs) -> None:
        topic, late = self._topic, self._topic.publisher is not self
        for seq, value in enumerate(outputs.values, outputs.first):
            if topic.land(seq, value):
                self._coverage.hit("outputs in a sink twice")
        if late:
            self._coverage.hit("zombie publishes late")

    def _on_lost(self) -> None:
        """The broker refuses what comes after it: out of order sequence."""
        self._broken = self._broken or self._established

    def _lose_at_crash(self, probability: float) -> None:
        if not self.queue or not self._kernel.chance(probability):
            return
        self._coverage.hit("publishes lost at a crash")
        if self._established:
            keep = self._kernel.random.randrange(len(self.queue))
            self.queue = deque(list(self.queue)[:keep])
            self._broken = self._broken or not keep
        else:
            self.queue.popleft()
