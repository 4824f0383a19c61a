"""The audit_input as it lies in Kafka."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.metadata import bounds, partition_count
from postjournal.adapters.kafka.partition_reader import KafkaPartition
from postjournal.adapters.snapshots.object_store import ObjectStore
from postjournal.cluster.status import ReplicaStatus, decode_status
from postjournal.core.application import Application
from postjournal.core.errors import ConfigurationError
from postjournal.verify.partition import Partition
from postjournal.verify.replay import DEADLETTER
from postjournal.verify.replicas import ReportedDigest
from postjournal.verify.shard import AuditInput, Sink
from postjournal.verify.snapshots import StoredSnapshot
from postjournal.verify.store import snapshots

ANSWER_S = 10.0
STALLED_S = 30.0
CHUNK_RECORDS = 4_000
LAST_STATUSES = 20_000
"""How far back the status topic is read, in records: it bounds what is kept of them."""


class AuditSource:
    """Finds what is to be audited and fixes the ends."""

    def __init__(
        self,
        bootstrap: str,
        namespace: str,
        application: Application[Any, Any, Any],
        store: ObjectStore | None = None,
    ) -> None:
        """Connects; call `close`. Without a store, snapshots are not looked at."""
        self._bootstrap, self._namespace = bootstrap, namespace
        self._application, self._store = application, store
        settings = kafka_settings.audit_consumer(bootstrap) | {"log_level": 2}
        self._consumer = Consumer(settings)

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()

    def shards(self) -> int:
        """How many shards the journal has. Raises `ConfigurationError`, `JournalUnavailable`."""
        topic = self._topic("journal")
        count = partition_count(self._consumer, topic, ANSWER_S)
        if count == 0:
            raise ConfigurationError(
                f"there is no topic {topic} at {self._bootstrap}: is the namespace right?"
            )
        return count

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
        topic = self._topic(name)
        first, end = bounds(self._consumer, topic, shard, ANSWER_S)
        return KafkaPartition(self._bootstrap, topic, shard, first, end)

    def _said(self, shard: int) -> list[ReportedDigest]:
        statuses: Partition = self._partition("status", shard)
        start = max(statuses.first, statuses.end - LAST_STATUSES)
        return [
            ReportedDigest(offset, status)
            for chunk in statuses.chunks(start)
            for offset, value in zip(chunk.offsets, chunk.values, strict=True)
            if isinstance(status := decode_status(value), ReplicaStatus) and status.shard == shard
        ]
