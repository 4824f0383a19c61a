"""The simulated log, without faults; virtual time passes in `poll`."""

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
from tests.support.contract.shard_log import SINK, LogUnderTest


class _PollingLog(SimShardLog):
    """Lets virtual time pass in `poll`; in the simulation it passes outside."""

    def poll(self, timeout_ms: int) -> Sequence[m.Message]:
        self._host.cluster.run_for(timeout_ms * MS)
        return super().poll(0)


class SimulatedLogUnderTest:
    """A `LogUnderTest` on the simulated broker."""

    timeout_ms = 2_000
    quiet_ms = 200

    def __init__(self, first: SimulatedLogUnderTest | None = None) -> None:
        """`first`: a log whose broker is shared."""
        self._seqs: list[int] = first._seqs if first else []
        self._cluster: SimulatedCluster = (
            first._cluster if first else SimulatedCluster(EventLoop(7), Profile(replicas=2))
        )
        self._topics: ShardTopics = (
            first._topics if first else ShardTopics(0, _check_nothing, self._on_sink)
        )
        host: Host = self._cluster.hosts[1 if first else 0]
        host.alive, host.start_count = True, 1
        self.log: ShardLog = _PollingLog(host, self._topics, lambda: None)
        self.log.open_journal(0)

    def _on_sink(self, sink: str, seq: int, value: bytes) -> None:
        assert msgspec.json.decode(value)["seq"] == seq
        if sink == SINK:
            self._seqs.append(seq)

    def topic(self, source: str) -> str:
        return f"ledger.{source}"

    def feed(self, source: str, values: list[bytes]) -> None:
        partition = self._topics.sources[self.topic(source)]
        for value in values:
            partition.land((len(partition.records), b"main", value))

    def sink_seqs(self) -> list[int]:
        return self._seqs

    def trim(self, before: int) -> None:
        self._topics.journal.trim(before)

    def empty_sink(self) -> None:
        self._topics.sinks[SINK].tail = 0

    def another(self) -> LogUnderTest:
        return SimulatedLogUnderTest(self)

    def close(self) -> None:
        pass


def _check_nothing(offset: int, value: bytes) -> None:
    """The contract tests check what the log delivers."""
