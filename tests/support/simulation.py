"""Parts of the simulation on their own: one host with its log, and the records of a run."""

from __future__ import annotations

from postjournal.core import messages as m
from postjournal.verify.partition import Partition
from postjournal.verify.shard import AuditInput, Sink
from tests.simulation.broker import ShardTopics, SinkTopic
from tests.simulation.cluster import SimulatedCluster
from tests.simulation.event_loop import MS, EventLoop
from tests.simulation.host import Host
from tests.simulation.profile import Profile
from tests.simulation.shard_log import SimShardLog
from tests.support.audited_shard import MemoryPartition


class SingleHost:
    """One running host without a replica, and its log."""

    def __init__(self) -> None:
        self.cluster = SimulatedCluster(EventLoop(1), Profile(replicas=1))
        self.topics = ShardTopics(0, lambda *_: None, lambda *_: None)
        self.host: Host = self.cluster.hosts[0]
        self.host.alive, self.host.start_count = True, 1
        self.log = SimShardLog(self.host, self.topics, lambda: None)
        self.log.open_journal(0)

    def messages(self, duration_ms: int = 2_500) -> list[m.Message]:
        """Let time pass and return what the log delivers."""
        self.cluster.run_for(duration_ms * MS)
        return list(self.log.poll(0))


class RecordedSink:
    """The records of a simulated sink as bytes."""

    def __init__(self, topic: SinkTopic) -> None:
        self.values: list[tuple[bytes | None, bytes]] = []
        self._watch, topic.watcher = topic.watcher, self._on_landed

    def _on_landed(self, seq: int, value: bytes) -> None:
        self.values.append((None, value))
        self._watch(seq, value)


def audit_input(
    cluster: SimulatedCluster, shard: int, sinks: dict[str, RecordedSink]
) -> AuditInput:
    """One shard's topics as the auditor reads them."""
    topics = cluster.topics[shard]
    sources: dict[str, Partition] = {
        topic: MemoryPartition(topic, [(key, value or b"") for _, key, value in partition.records])
        for topic, partition in topics.sources.items()
    }
    listed = {
        name: MemoryPartition(f"ledger.{name}", recorded.values) for name, recorded in sinks.items()
    }
    return AuditInput(
        shard=shard,
        shards=cluster.profile.shards,
        journal=MemoryPartition(
            "ledger.journal", [(None, value) for value in topics.journal.records]
        ),
        sources=sources,
        sinks={name: Sink(partition, partition.end) for name, partition in listed.items()},
    )
