"""One load: commands sent, results watched, and both audited."""

from __future__ import annotations

import sys
import time
import uuid
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, takewhile
from typing import TypeVar

from loadtest.progress import show_status
from loadtest.system import BenchSystem
from loadtest.workload.audit import Auditor, Findings
from loadtest.workload.commands import CommandSpec, SentCommands, Workload
from loadtest.workload.sender import Sender
from loadtest.workload.watcher import Seen, Watcher
from postjournal.adapters.process.gc_tuning import reduce_gc_frequency
from postjournal.cluster.status import Failover, ReplicaStatus, SnapshotProgress, decode_status

L = TypeVar("L", bound="Load")

DRAIN_TIMEOUT_S = 30.0
SWITCH_INTERVAL_S = 0.0005
"""No other Python thread may delay the measuring threads, sender and watcher, for longer."""


class Load:
    """`outcomes`: for each position that has an outcome, the record that was seen first.

    `seen_ns` and `stamps_ms`: by shard, for each result seen for the first time, when it was
    seen (monotonic clock) and Kafka's timestamp (ms since the Unix epoch), in order of arrival.
    """

    def __init__(self, system: BenchSystem, seed: int, ledgers: int = 1) -> None:
        """Connect; nothing is sent yet."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        run, shards, topics = uuid.uuid4().hex[:8], system.plan.shards, system.topics
        self.workload = Workload(run, seed, ledgers=ledgers)
        self.opening = self.workload.opening()
        self.sent = SentCommands(run)
        self._results = system.results_topic
        self.watcher = Watcher(system.kafka, [self._results, topics.status], shards)
        self.is_from_start = all(
            self.watcher.starts[self._results, shard] == 0 for shard in range(shards)
        )
        self.auditor = Auditor(self.sent, from_start=self.is_from_start)
        self.sender = Sender(system.kafka, topics.source_topics[0], shards, self.sent)
        self.outcomes: dict[int, Seen] = {}
        self.seen_ns = [array("q") for _ in range(shards)]
        self.stamps_ms = [array("q") for _ in range(shards)]
        self.failovers: list[Failover] = []
        self.statuses: list[ReplicaStatus] = []
        self.snapshot_progress: list[SnapshotProgress] = []

    def open_accounts(self) -> None:
        """Open all accounts with money in them, and wait for the results."""
        self.sender.send_all(self.opening)
        self.drain()

    def start(self, rate: float) -> None:
        """Send commands of all types at `rate` per second until `stop`."""
        self.sender.start(self._endless(), rate)

    def run(self, rate: float, seconds: float) -> range:
        """Send for `seconds`, wait for the results; return the positions of the commands."""
        first, end_s = len(self.sent), time.monotonic() + seconds
        self.sender.start(takewhile(lambda _: time.monotonic() < end_s, self._endless()), rate)
        self.sender.join()
        self.drain()
        return range(first, len(self.sent))

    def _endless(self) -> Iterator[CommandSpec]:
        return (self.workload.next() for _ in count())

    def stop(self) -> None:
        """End the load and wait for the missing results."""
        self.sender.stop()
        self.drain()

    def poll(self) -> None:
        """Process the records that have been seen since the last call."""
        for seen in self.watcher.take():
            if seen.topic == self._results:
                self._on_result(seen)
            else:
                self._on_status(seen)

    def _on_result(self, seen: Seen) -> None:
        repeats = self.auditor.repeats
        position = self.auditor.add(seen.partition, seen.value)
        if self.auditor.repeats == repeats:
            self.seen_ns[seen.partition].append(seen.seen_ns)
            self.stamps_ms[seen.partition].append(seen.stamp_ms)
        if position is not None:
            self.outcomes[position] = seen

    def _on_status(self, seen: Seen) -> None:
        record = decode_status(seen.value)
        if isinstance(record, Failover):
            self.failovers.append(record)
        elif isinstance(record, ReplicaStatus):
            self.statuses.append(record)
        elif record is not None:
            self.snapshot_progress.append(record)

    def drain(self) -> None:
        """Wait until every command has its outcome, for at most half a minute."""
        deadline = time.monotonic() + DRAIN_TIMEOUT_S
        self.poll()
        while (missing := self.outstanding) and time.monotonic() < deadline:
            show_status(f"waiting for {missing} results")
            time.sleep(0.05)
            self.poll()

    @property
    def outstanding(self) -> int:
        """How many results are missing: 0 as soon as every acknowledged command has one."""
        return 0 if self.auditor.is_complete else len(self.sent) - self.auditor.decided

    def latency_ms(self, positions: range) -> dict[int, float]:
        """From the intended time of sending until the result is seen, by position."""
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
            self.outcomes[position].stamp_ms
            - (sender.intended_ns[position] + sender.late_ns[position] + to_wall_ns) / 1e6
            for position in positions
            if position in self.outcomes
        ]

    def takeovers(self, shard: int, since: int) -> list[Failover]:
        """The shard's failovers among those received after the first `since`."""
        return [failover for failover in self.failovers[since:] if failover.shard == shard]

    def balances_by_shard(self) -> dict[int, dict[str, int]]:
        """Shard → account → its last balance in the results."""
        found: dict[int, dict[str, int]] = {}
        shards = {spec.account: self.sender.partition(spec.ledger) for spec in self.opening}
        for account, balance in self.auditor.balances.items():
            found.setdefault(shards[account], {})[account] = balance
        return found

    def findings(self) -> Findings:
        """The audit of everything so far."""
        self.poll()
        return self.auditor.findings()


@contextmanager
def opened(load: L) -> Iterator[L]:
    """Open the accounts of a load, and end it."""
    try:
        load.open_accounts()
        reduce_gc_frequency()  # the client's pauses would be measured as the engine's
        yield load
    finally:
        load.sender.stop()
        load.watcher.close()
