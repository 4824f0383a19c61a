"""One load with both its ends: commands in, results out, and the audit between them."""

from __future__ import annotations

import sys
import time
import uuid
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, takewhile
from typing import TypeVar

from loadtest.bench_system import Stage
from loadtest.progress import show
from loadtest.workload.audit import Auditor, Findings
from loadtest.workload.commands import Book, Mix, Order
from loadtest.workload.sender import Sender
from loadtest.workload.watcher import Seen, Watcher
from postjournal.adapters.process.gc_tuning import reduce_gc_frequency
from postjournal.cluster.status import Failover, ReplicaStatus, SnapshotProgress, decode_status

L = TypeVar("L", bound="Load")

DRAIN_S = 30.0
SWITCH_S = 0.0005
"""The sender and the watcher measure; no other Python thread may hold them up for longer."""


class Load:
    """`outcomes`: for each position that has an outcome, when it was seen (monotonic ns).

    `fresh_ns` and `fresh_ms`: by shard, for each result seen for the first time, when it was
    seen and Kafka's timestamp (ms since the Unix epoch), both in the order of arrival.
    """

    def __init__(self, stage: Stage, seed: int, ledgers: int = 1) -> None:
        """Connects both ends; sends nothing yet."""
        sys.setswitchinterval(SWITCH_S)
        run, shards, topics = uuid.uuid4().hex[:8], stage.plan.shards, stage.topics
        self.mix = Mix(run, seed, ledgers=ledgers)
        self.opening = self.mix.opening()
        self.book = Book(run)
        self._results, self._status = topics.sink_topics["results"], topics.status
        self.watcher = Watcher(stage.kafka, [self._results, self._status], shards)
        at_zero = all(self.watcher.starts[self._results, s] == 0 for s in range(shards))
        self.auditor = Auditor(self.book, from_start=at_zero)
        self.sender = Sender(stage.kafka, topics.source_topics[0], shards, self.book)
        self.outcomes: dict[int, Seen] = {}
        self.fresh_ns = [array("q") for _ in range(shards)]
        self.fresh_ms = [array("q") for _ in range(shards)]
        self.failovers: list[Failover] = []
        self.statuses: list[ReplicaStatus] = []
        self.progress: list[SnapshotProgress] = []

    def open_accounts(self) -> None:
        """Everything that the mix needs, and its results."""
        self.sender.send_all(self.opening)
        self.drain()

    def start(self, rate: float) -> None:
        """Commands of all types at `rate` per second until `stop`."""
        self.sender.start((self.mix.next() for _ in count()), rate)

    def run(self, rate: float, seconds: float) -> range:
        """Send for `seconds`, wait for the results; the positions in the book."""
        first, end_s = len(self.book), time.monotonic() + seconds
        self.sender.start(self._until(end_s), rate)
        self.sender.join()
        self.drain()
        return range(first, len(self.book))

    def _until(self, end_s: float) -> Iterator[Order]:
        return takewhile(lambda _: time.monotonic() < end_s, (self.mix.next() for _ in count()))

    def stop(self) -> None:
        """End the load and wait for what is under way."""
        self.sender.stop()
        self.drain()

    def catch_up(self) -> None:
        """Audit what has been seen meanwhile."""
        for seen in self.watcher.take():
            if seen.topic == self._results:
                self._take_result(seen)
            else:
                self._take_status(seen)

    def _take_result(self, seen: Seen) -> None:
        repeats = self.auditor.repeats
        position = self.auditor.take(seen.partition, seen.value)
        if self.auditor.repeats == repeats:
            self.fresh_ns[seen.partition].append(seen.seen_ns)
            self.fresh_ms[seen.partition].append(seen.stamp_ms)
        if position is not None:
            self.outcomes[position] = seen

    def _take_status(self, seen: Seen) -> None:
        record = decode_status(seen.value)
        if isinstance(record, Failover):
            self.failovers.append(record)
        elif isinstance(record, ReplicaStatus):
            self.statuses.append(record)
        elif record is not None:
            self.progress.append(record)

    def drain(self) -> None:
        """Wait until every command has its outcome, for at most half a minute."""
        deadline = time.monotonic() + DRAIN_S
        self.catch_up()
        while (count := self.waiting_for) and time.monotonic() < deadline:
            show(f"waiting for {count} results")
            time.sleep(0.05)
            self.catch_up()

    @property
    def waiting_for(self) -> int:
        """How many results are missing: 0 as soon as every acknowledged command has one."""
        return 0 if self.auditor.complete else len(self.book) - self.auditor.decided

    def latency_ms(self, positions: range) -> dict[int, float]:
        """From the intended time of sending to the result's being seen, by position."""
        intended = self.sender.intended_ns
        return {
            position: (self.outcomes[position].seen_ns - intended[position]) / 1e6
            for position in positions
            if position in self.outcomes
        }

    def until_stamp_ms(self, positions: range) -> list[float]:
        """From the actual call that sent a command to Kafka's timestamp of its result."""
        sender, to_wall_ns = self.sender, time.time_ns() - time.monotonic_ns()
        return [
            self.outcomes[each].stamp_ms
            - (sender.intended_ns[each] + sender.late_ns[each] + to_wall_ns) / 1e6
            for each in positions
            if each in self.outcomes
        ]

    def balances_by_shard(self) -> dict[int, dict[str, int]]:
        """Shard → account → the last balance that results told."""
        found: dict[int, dict[str, int]] = {}
        shards = {order.account: self.sender.partition(order.ledger) for order in self.opening}
        for account, balance in self.auditor.balances.items():
            found.setdefault(shards[account], {})[account] = balance
        return found

    def findings(self) -> Findings:
        """The audit of everything so far."""
        self.catch_up()
        return self.auditor.findings()


@contextmanager
def load_on(stage: Stage, seed: int, ledgers: int = 1) -> Iterator[Load]:
    """A load on accounts that are open and have money."""
    with at_work(Load(stage, seed, ledgers)) as load:
        yield load


@contextmanager
def at_work(load: L) -> Iterator[L]:
    """Opens the accounts; ends the load."""
    try:
        load.open_accounts()
        reduce_gc_frequency()  # the client's pauses would be measured as the engine's
        yield load
    finally:
        load.sender.stop()
        load.watcher.close()
