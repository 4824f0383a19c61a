"""The log in memory, without faults; virtual time passes in `poll`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from postjournal.core import messages as m
from postjournal.ports import ShardLog
from tests.simulation.broker import ShardTopics
from tests.simulation.cluster import SimulatedCluster
from tests.simulation.event_loop import MS, EventLoop
from tests.simulation.host import Host
from tests.simulation.profile import Profile
from tests.simulation.shard_log import SimShardLog
from tests.support.contract.shard_log import SINK, Harness


class _PatientLog(SimShardLog):
    """In the simulation proper the cluster turns outside of `poll`."""

    def poll(self, timeout_ms: int) -> Sequence[m.Message]:
        """See `ShardLog`."""
        self._host.cluster.run_for(timeout_ms * MS)
        return super().poll(0)


class SimulatedHarness:
    """See `Harness`."""

    timeout_ms = 2_000
    quiet_ms = 200

    def __init__(self, first: SimulatedHarness | None = None) -> None:
        """`first`: share its broker."""
        self._seqs: list[int] = first._seqs if first else []
        self._cluster: SimulatedCluster = (
            first._cluster if first else SimulatedCluster(EventLoop(7), Profile(replicas=2))
        )
        self._topics: ShardTopics = (
            first._topics if first else ShardTopics(0, _see_nothing, self._on_sink)
        )
        host: Host = self._cluster.hosts[1 if first else 0]
        host.alive, host.start_count = True, 1
        self.log: ShardLog = _PatientLog(host, self._topics, lambda: None)
        self.log.open_journal(0)

    def _on_sink(self, sink: str, seq: int, value: bytes) -> None:
        assert msgspec.json.decode(value)["seq"] == seq
        if sink == SINK:
            self._seqs.append(seq)

    def topic(self, source: str) -> str:
        """See `Harness`."""
        return f"ledger.{source}"

    def feed(self, source: str, values: list[bytes]) -> None:
        """See `Harness`."""
        partition = self._topics.sources[self.topic(source)]
        for value in values:
            partition.land((len(partition.records), b"main", value))

    def sink_seqs(self) -> list[int]:
        """See `Harness`."""
        return self._seqs

    def trim(self, before: int) -> None:
        """See `Harness`."""
        self._topics.journal.trim(before)

    def empty_sink(self) -> None:
        """See `Harness`."""
        self._topics.sinks[SINK].tail = 0

    def another(self) -> Harness:
        """See `Harness`."""
        return SimulatedHarness(self)

    def close(self) -> None:
        """See `Harness`."""


def _see_nothing(offset: int, value: bytes) -> None:
    """There are no invariants to check."""
