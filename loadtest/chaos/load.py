"""The load of a chaos run: commands directly into Kafka and through the gateway, some twice."""

from __future__ import annotations

import random
import threading
from collections import Counter

from loadtest.chaos.gateway_clients import GatewayClients
from loadtest.system import BenchSystem
from loadtest.workload.load import Load
from loadtest.workload.watcher import Seen
from postjournal.cluster.status import SnapshotProgress, decode_status

LEDGERS = 5
CLIENTS, CLIENTS_RATE = 2, 20.0
REPEATS_EVERY_S = 0.25
RECENT = 1_000
"""A repeat is of one of the last commands: well within the dedupe window."""


class ChaosLoad(Load):
    """A `Load`, clients of the gateway, and repeats of recent commands.

    `snapshots`: how many attempts at snapshots are done, and how many failed.
    """

    def __init__(self, system: BenchSystem, seed: int) -> None:
        super().__init__(system, seed, LEDGERS)
        self.clients = GatewayClients(
            system.plan.url("producer"), seed, CLIENTS, CLIENTS_RATE, from_start=self.is_from_start
        )
        self._rng = random.Random(f"repeats {seed}")
        self._over = threading.Event()
        self._repeater = threading.Thread(target=self._repeat, daemon=True, name="repeats")
        self.repeated = 0
        self.snapshots: Counter[str] = Counter()

    def start(self, rate: float) -> None:
        """Start everything; `rate` is that of the commands directly into Kafka."""
        super().start(rate)
        self.clients.start()
        self._repeater.start()

    def stop(self) -> None:
        self._over.set()
        self._repeater.join()
        self.clients.stop()
        super().stop()
        self.clients.compare()

    @property
    def outstanding(self) -> int:
        """How many results are missing, of either kind of client."""
        auditor = self.clients.auditor
        missing = 0 if auditor.is_complete else len(self.clients.sent) - auditor.decided
        return super().outstanding + missing

    def balances_by_shard(self) -> dict[int, dict[str, int]]:
        found = super().balances_by_shard()
        shard = self.sender.partition("main")
        found.setdefault(shard, {}).update(self.clients.auditor.balances)
        return found

    def _on_result(self, seen: Seen) -> None:
        super()._on_result(seen)
        self.clients.add(seen)

    def _on_status(self, seen: Seen) -> None:
        super()._on_status(seen)
        record = decode_status(seen.value)
        if isinstance(record, SnapshotProgress) and record.state in ("done", "failed"):
            self.snapshots[record.state] += 1

    def _repeat(self) -> None:
        while not self._over.wait(REPEATS_EVERY_S):
            count = len(self.sent)
            self.sender.repeat(self._rng.randrange(max(count - RECENT, 0), count))
            self.repeated += 1
