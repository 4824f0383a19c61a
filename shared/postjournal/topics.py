"""The names of the topics, and which partition (= shard) a key belongs to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

DEFAULT_KEY = "main"
"""The key of a command that names no ledger."""

DEADLETTER = "deadletter"
"""The engine's own sink: one record per command that could not be decided."""


@dataclass(frozen=True)
class Topics:
    """Topic names of one namespace. `sources` and `sinks`: short names → in `source_topics` etc."""

    namespace: str
    sources: tuple[str, ...]
    sinks: tuple[str, ...]

    @classmethod
    def of(cls, namespace: str, sources: Iterable[str], sinks: Iterable[str]) -> Topics:
        """The topics of an application; the dead-letter sink is always the last."""
        return cls(namespace, tuple(sources), (*sinks, DEADLETTER))

    def topic(self, name: str) -> str:
        """The full name of the topic with the short name `name`."""
        return f"{self.namespace}.{name}"

    @property
    def journal(self) -> str:
        """One partition is one shard's journal."""
        return self.topic("journal")

    @property
    def control(self) -> str:
        """Commands to replicas: handover, snapshot."""
        return self.topic("control")

    @property
    def status(self) -> str:
        """What replicas say of themselves; see `postjournal.status`."""
        return self.topic("status")

    @property
    def source_topics(self) -> tuple[str, ...]:
        """Full names, in the application's order."""
        return tuple(self.topic(name) for name in self.sources)

    @property
    def sink_topics(self) -> dict[str, str]:
        """Sink → full topic name."""
        return {name: self.topic(name) for name in self.sinks}

    @property
    def all(self) -> tuple[str, ...]:
        """Every topic that the system creates and checks."""
        return (
            *self.source_topics,
            self.journal,
            *self.sink_topics.values(),
            self.control,
            self.status,
        )


def shard_of(key: bytes, shards: int) -> int:
    """The shard of a key: murmur2, as Kafka's Java clients partition by default.

    librdkafka calls the same function `murmur2_random`; `partitioner` must be set to it, since
    its own default (CRC32) differs.
    """
    return (_murmur2(key) & 0x7FFFFFFF) % shards


def _murmur2(data: bytes) -> int:
    """org.apache.kafka.common.utils.Utils.murmur2, as an unsigned 32-bit integer."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ len(data)
    whole = len(data) & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
    rest = data[whole:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15
