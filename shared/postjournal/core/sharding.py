"""Which shard a key belongs to."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_KEY = b"main"
"""The key of a command that has none."""


@dataclass(frozen=True)
class ShardPlace:
    """One shard, from 0, of how many."""

    shard: int
    shards: int


def shard_of(key: bytes, shards: int) -> int:
    """Return the shard of a key: murmur2, as Kafka's Java clients partition by default.

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
