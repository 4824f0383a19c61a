"""The audit_input as it lies in Kafka."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from postjournal.verify.snapshots import StoredSnapshot
from postjournal.verify.store import snapshots

LAST_STATUSES = 20_000
"""How far back the status topic is read, in records: it bounds what is kept of them."""


class AuditSource:
    """Finds what is to be audited and fixes the ends."""

    def __init__(
        self,
        kafka: KafkaAccess,
        namespace: str,
        application: Application[Any, Any, Any],
        store: ObjectStore | None = None,
    ) -> None:
        """Connects; call `close`. Without a store, snapshots are not looked at."""
        self._namespace = namespace
        self._application, self._store = application, store
        self._finder = PartitionFinder(kafka)

    def close(self) -> None:
        """Let go of the connection."""
        self._finder.close()

    def shards(self) -> int:
        """How many shards the journal has. Raises `ConfigurationError`, `JournalUnavailable`."""
        return self._finder.count(self._topic("journal"))

    def audit_input(self, shard: int, shards: int) -> AuditInput:
        """The order matters: see `AuditInput`."""
        none: tuple[Sequence[StoredSnapshot], Mapping[str, str]] = ((), {})
        kept, unreadable = snapshots(self._store, self._namespace, shard) if self._store else none
        said = self._said(shard)
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
            said=said,
            kept=kept,
            unreadable=unreadable,
        )

    def _topic(self, name: str) -> str:
        return f"{self._namespace}.{name}"

    def _partition(self, name: str, shard: int) -> KafkaPartition:
        return self._finder.partition(self._topic(name), shard)

    def _said(self, shard: int) -> list[ReportedDigest]:
        statuses: Partition = self._partition("status", shard)
        start = max(statuses.first, statuses.end - LAST_STATUSES)
        return [
            ReportedDigest(offset, status)
            for chunk in statuses.chunks(start)
            for offset, value in zip(chunk.offsets, chunk.values, strict=True)
            if isinstance(status := decode_status(value), ReplicaStatus) and status.shard == shard
        ]
