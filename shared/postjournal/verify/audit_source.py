"""Reads what an audit compares from Kafka and from the snapshot store."""

from __future__ import annotations

from typing import Any

from postjournal.adapters.kafka.partition_reader import KafkaPartition, PartitionFinder
from postjournal.adapters.snapshots.object_store import ObjectStore
from postjournal.cluster.status import ReplicaStatus, decode_status
from postjournal.config.settings import KafkaAccess
from postjournal.core.application import Application
from postjournal.verify.partition import Partition
from postjournal.verify.replay import DEADLETTER
from postjournal.verify.replicas import ReportedDigest
from postjournal.verify.shard import AuditInput, Sink
from postjournal.verify.store import StoredSnapshots, list_snapshots

ANSWER_TIMEOUT_S = 10.0

LAST_STATUSES = 20_000
"""Only the last so many records of the status topic are read; this bounds the memory for them."""


class AuditSource:
    """Locates a shard's topics and snapshots and fixes the end offsets of the audit."""

    def __init__(
        self,
        kafka: KafkaAccess,
        namespace: str,
        application: Application[Any, Any, Any],
        store: ObjectStore | None = None,
    ) -> None:
        """Connect to Kafka; call `close` afterwards. Without a store, no snapshots are audited."""
        self._namespace = namespace
        self._application, self._store = application, store
        self._finder = PartitionFinder(kafka)

    def close(self) -> None:
        self._finder.close()

    def shards(self) -> int:
        """The number of the journal's shards.

        Raises `ConfigurationError` when there is no journal topic, and `JournalUnavailable`.
        """
        return self._finder.count(self._topic("journal"))

    def audit_input(self, shard: int, shards: int) -> AuditInput:
        """Fix the ends of one shard's topics, in the order that `AuditInput` requires.

        Raises `JournalUnavailable`, and `StoreUnavailable` or `StoreUnusable`.
        """
        snapshots = StoredSnapshots()
        if self._store is not None:
            snapshots = list_snapshots(self._store, self._namespace, shard)
        reported = self._reported_digests(shard)
        names = (*self._application.sinks, DEADLETTER)
        settled = {name: self._partition(name, shard).end for name in names}
        journal = self._partition("journal", shard)
        sources = [self._partition(name, shard) for name in self._application.sources]
        return AuditInput(
            shard=shard,
            shards=shards,
            journal=journal,
            sources={source.topic: source for source in sources},
            sinks={name: Sink(self._partition(name, shard), settled[name]) for name in names},
            status_topic=self._topic("status"),
            reported=reported,
            snapshots=snapshots.readable,
            unreadable_manifests=snapshots.unreadable,
        )

    def _topic(self, name: str) -> str:
        return f"{self._namespace}.{name}"

    def _partition(self, name: str, shard: int) -> KafkaPartition:
        return self._finder.partition(self._topic(name), shard)

    def _reported_digests(self, shard: int) -> list[ReportedDigest]:
        statuses: Partition = self._partition("status", shard)
        start = max(statuses.first, statuses.end - LAST_STATUSES)
        return [
            ReportedDigest(offset, status)
            for chunk in statuses.chunks(start)
            for offset, value in zip(chunk.offsets, chunk.values, strict=True)
            if isinstance(status := decode_status(value), ReplicaStatus) and status.shard == shard
        ]
