"""Producers of the journal: one for a leader's records, one for claims."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from postjournal.core import messages as m
from tests.simulation.broker import ShardTopics
from tests.simulation.event_loop import MS
from tests.simulation.producers import JOURNAL, Deliver, Request, SimProducer
from tests.simulation.reference import parsed

if TYPE_CHECKING:
    from tests.simulation.host import Host

LOST, UNACKNOWLEDGED, TWICE, LATE = "lost", "unacknowledged", "twice", "late"
"""Outcomes of an append that a scenario can choose."""

MOST_BYTES = 8_000_000
"""`message.max.bytes` of the production producer."""

CLAIM_TIMEOUT_US = 300 * MS


class JournalProducer(SimProducer[bytes]):
    """Appends entries, heartbeats and resignations."""

    TO = JOURNAL

    def __init__(self, host: Host, topics: ShardTopics, deliver: Deliver) -> None:
        super().__init__(host, topics, deliver)
        self.fates: deque[str] = deque()  # of the next appends to arrive, set by scenarios
        self.slowest_failure_us = 1_200 * MS
        self.is_broken = False  # fatally: no later append succeeds
        self.has_failed = False
        self._lost = False

    def send(self, value: bytes) -> None:
        """Queue an append; rarely it overtakes the one before, which idempotence prevents in Kafka.

        Or the producer rejects it and reports that at once, while the outcome of earlier appends is
        still unknown: its queue is full, or it is broken.
        """
        fault_probability = self._host.cluster.fault_probability
        if self._loop.chance(fault_probability("append_refused")):
            self.is_broken = self._loop.random.random() < 0.5
            self._refuse(value)
            return
        if self._host.cluster.refuses_entries and value.startswith(b'{"kind":"entry"'):
            self._refuse(value, is_final=True)
            return
        if self.is_broken or len(value) > MOST_BYTES:
            self._refuse(value)
            return
        super().send(value)
        queue = self.queue
        if len(queue) > 1 and self._loop.chance(fault_probability("append_swapped")):
            queue[-1].value, queue[-2].value = queue[-2].value, queue[-1].value
            self._coverage.hit("appends out of order")

    def _refuse(self, value: bytes, *, is_final: bool = False) -> None:
        self._coverage.hit("entries refused" if is_final else "appends rejected by the producer")
        self.has_failed = True
        failure = _failure("not taken", value)
        failure.is_refused = is_final
        self._loop.after(0, self._deliver_report, self.generation, failure)

    def _mean_us(self) -> int:
        return self._host.append_us

    def _land(self, request: Request[bytes]) -> None:
        fate = self.fates.popleft() if self.fates else self._draw_fate()
        if fate == LOST:
            self._lost = True
            self._coverage.hit("appends lost")
            self._fail("lost", request)
            return
        self._topics.journal.land(request.value)
        self._count_landing(fate)
        if fate == UNACKNOWLEDGED:
            self._fail("no acknowledgement came", request)
            return
        if fate == TWICE:
            mean_us = self._loop.random.choice((5, 50, 300)) * MS
            self._loop.after(self._loop.exponential(mean_us), self._land_again, request.value)
        delay_us = self._loop.exponential(self._host.ack_us)
        if fate == LATE or self._loop.chance(self._host.cluster.fault_probability("report_late")):
            delay_us += self._loop.uniform(20 * MS, 1_000 * MS)
            self._coverage.hit("appends reported late")
        self._report(delay_us, request.generation, m.AppendAcknowledged(1))

    def _draw_fate(self) -> str:
        """LOST: the producer gave the append up and continues, as a new one would."""
        cluster, chance = self._host.cluster, self._loop.chance
        for fate in (LOST, UNACKNOWLEDGED, TWICE):
            if chance(cluster.fault_probability(f"append_{fate}")):
                return fate
        return "landed"

    def _count_landing(self, fate: str) -> None:
        hit = self._coverage.hit
        if self._lost:
            hit("appends lost, a later one landed")
        if self.sender_exited:
            hit("zombie appends after death")
        if fate == UNACKNOWLEDGED:
            hit("indeterminate appends that landed")

    def _land_again(self, value: bytes) -> None:
        if self._host.reachable:
            self._topics.journal.land(value)
            self._coverage.hit("appends landed twice")

    def _fail(self, error: str, request: Request[bytes]) -> None:
        self.has_failed = True
        delay_us = self._loop.uniform(MS, self.slowest_failure_us)
        self._report(delay_us, request.generation, _failure(error, request.value))

    def _lose_at_crash(self, probability: float) -> None:
        remaining = [r for r in self.queue if not self._loop.chance(probability)]
        self._on_dropped(len(self.queue) - len(remaining))
        self.queue = deque(remaining)

    def _on_dropped(self, count: int) -> None:
        self._coverage.hit("appends dropped at a crash", count)


def _failure(error: str, value: bytes) -> m.AppendFailed:
    """The last word of the error is the epoch of the record, for the audit."""
    record = parsed(value)
    return m.AppendFailed(f"{error}, epoch {record['epoch'] if isinstance(record, dict) else 0}")


class ClaimProducer(SimProducer[bytes]):
    """Appends claims: they expire after CLAIM_TIMEOUT_US and are never acknowledged."""

    TO = JOURNAL

    def send(self, value: bytes) -> None:
        super().send(value)
        if not self._stalled and self._loop.chance(
            self._host.cluster.fault_probability("claim_late")
        ):
            late_us = self._loop.uniform(MS, CLAIM_TIMEOUT_US)
            self._arrive_at(self.queue[-1], self.queue[-1].arrives_us + late_us)
            self._coverage.hit("claims landed late")

    def purge(self) -> None:
        """Drop what has not departed."""
        self._coverage.hit("claims purged", self.drop_undeparted())

    def _mean_us(self) -> int:
        return self._host.append_us

    def _land(self, request: Request[bytes]) -> None:
        age_us = self._loop.now_us - request.sent_us
        if age_us > CLAIM_TIMEOUT_US and self._loop.random.random() < 0.7:
            return  # expired; one that has just departed may still land
        if self._loop.chance(self._host.cluster.fault_probability("claim_lost")):
            self._coverage.hit("claims lost")
            return
        self._topics.journal.land(request.value)

    def _lose_at_crash(self, probability: float) -> None:
        self.queue = deque(r for r in self.queue if not self._loop.chance(probability))
