"""What goes on while a system is harmed: commands by both ways, some of them twice."""

from __future__ import annotations

import random
import threading
from collections import Counter

from loadtest.bench_system import Stage
from loadtest.chaos.clients import GatewayClients
from loadtest.workload.load import Load
from loadtest.workload.watcher import Seen
from postjournal.cluster.status import SnapshotProgress, decode_status

LEDGERS = 5
CLIENTS, CLIENTS_RATE = 2, 20.0
REPEATS_EVERY_S = 0.25
RECENT = 1_000
"""A repeat is of one of the last so many commands: well within the dedupe window."""


class ChaosLoad(Load):
    """See `Load`; besides, clients of the gateway, and repeats of recent commands."""

    def __init__(self, stage: Stage, seed: int) -> None:
        """Connects; sends nothing yet."""
        super().__init__(stage, seed, LEDGERS)
        at_zero = all(
            self.watcher.starts[self._results, shard] == 0 for shard in range(stage.plan.shards)
        )
        self.clients = GatewayClients(
            stage.plan.url("producer"), seed, CLIENTS, CLIENTS_RATE, at_zero=at_zero
        )
        self._rng = random.Random(f"repeats {seed}")
        self._over = threading.Event()
        self._repeating = threading.Thread(target=self._repeat, daemon=True, name="repeats")
        self.repeated = 0
        self.snapshots: Counter[str] = Counter()
        """Attempts at snapshots: how many are done, and how many failed."""

    def start(self, rate: float) -> None:
        """Everything at once; `rate` is that of the commands straight into Kafka."""
        super().start(rate)
        self.clients.start()
        self._repeating.start()

    def stop(self) -> None:
        """End the load and wait for what is under way."""
        self._over.set()
        self._repeating.join()
        self.clients.stop()
        super().stop()
        self.clients.compare()

    @property
    def waiting_for(self) -> int:
        """How many results are missing, of either kind of client."""
        clients = self.clients.auditor
        theirs = 0 if clients.complete else len(self.clients.book) - clients.decided
        return super().waiting_for + theirs

    def balances_by_shard(self) -> dict[int, dict[str, int]]:
        """Shard → account → the last balance that results told."""
        found = super().balances_by_shard()
        shard = self.sender.partition("main")
        found.setdefault(shard, {}).update(self.clients.auditor.balances)
        return found

    def _take_result(self, seen: Seen) -> None:
        super()._take_result(seen)
        self.clients.take(seen)

    def _take_status(self, seen: Seen) -> None:
        super()._take_status(seen)
        record = decode_status(seen.value)
        if isinstance(record, SnapshotProgress) and record.state in ("done", "failed"):
            self.snapshots[record.state] += 1

    def _repeat(self) -> None:
        while not self._over.wait(REPEATS_EVERY_S):
            count = len(self.book)
            self.sender.repeat(self._rng.randrange(max(count - RECENT, 0), count))
            self.repeated += 1
