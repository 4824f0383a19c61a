"""The producer of one sink."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from postjournal.core import messages as m
from postjournal.core.state.outbox import Outputs
from tests.simulation.broker import ShardTopics, SinkTopic
from tests.simulation.event_loop import MS
from tests.simulation.producers import SINK, Deliver, Request, SimProducer

if TYPE_CHECKING:
    from tests.simulation.host import Host


class SinkProducer(SimProducer[Outputs]):
    """One idempotent producer of one sink: what lands is a prefix of what was sent.

    But its first request may be lost while the second lands: before the first, the broker does
    not know where this producer's sequence begins.
    """

    TO = SINK

    def __init__(self, host: Host, topics: ShardTopics, sink: str, deliver: Deliver) -> None:
        super().__init__(host, topics, deliver)
        self._sink = sink
        self._topic: SinkTopic = topics.sinks[sink]
        self._topic.publisher = self
        self._established = self._broken = self._failed = False

    def break_off(self) -> None:
        """Fail fatally and report it."""
        if not self._failed:
            self._failed = self._broken = True
            self._coverage.hit("sink failures")
            self._report(0, self.generation, m.PublishFailed(self._sink, "the producer failed"))

    def _mean_us(self) -> int:
        return self._host.publish_us

    def _is_refused(self) -> bool:
        return super()._is_refused() or not self._host.reaches(self._sink)

    def _land(self, request: Request[Outputs]) -> None:
        outputs = request.value
        if self._broken:
            return
        if (
            self._loop.chance(self._host.cluster.fault_probability("publish_fails"))
            and not self._failed
        ):
            self._fail(outputs)
            return
        self._append(outputs)
        self._established = True
        published = m.Published(self._sink, outputs.end)
        if not self._failed:
            self._report(self._loop.exponential(self._host.ack_us), self.generation, published)

    def _fail(self, outputs: Outputs) -> None:
        """Nothing lands from some output of this request on; a first request alone may be lost."""
        self._failed = True
        self._coverage.hit("sink failures")
        if self._established:
            landing = self._loop.random.randint(0, len(outputs.values))
            if landing:
                self._append(outputs.between(outputs.first, outputs.first + landing))
                self._coverage.hit("sink failures with a prefix landed")
            self._broken = True
        else:
            self._coverage.hit("first requests of a producer lost")
        error = m.PublishFailed(self._sink, "the producer failed")
        self._report(self._loop.uniform(MS, 500 * MS), self.generation, error)

    def _append(self, outputs: Outputs) -> None:
        topic, late = self._topic, self._topic.publisher is not self
        for seq, value in enumerate(outputs.values, outputs.first):
            if topic.land(seq, value):
                self._coverage.hit("outputs in a sink twice")
        if late:
            self._coverage.hit("late zombie publishes")

    def _on_lost(self) -> None:
        """The broker rejects later requests as out of sequence."""
        self._broken = self._broken or self._established

    def _lose_at_crash(self, probability: float) -> None:
        if not self.queue or not self._loop.chance(probability):
            return
        self._coverage.hit("publishes lost at a crash")
        if self._established:
            keep = self._loop.random.randrange(len(self.queue))
            self.queue = deque(list(self.queue)[:keep])
            self._broken = self._broken or not keep
        else:
            self.queue.popleft()
