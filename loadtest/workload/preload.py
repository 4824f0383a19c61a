"""Appends many commands to a source topic quickly, before or without a load."""

from __future__ import annotations

import random
import time
import uuid
from array import array
from collections.abc import Iterator, Mapping
from itertools import count, islice

from loadtest.kafka import command_producer, create_topics, end_offset, follower
from loadtest.progress import show_status, step
from loadtest.system import BenchSystem
from loadtest.workload.commands import CommandSpec, encode, position_in
from postjournal.cli.errors import OperationFailed
from postjournal.config.settings import KafkaAccess
from postjournal.core.sharding import shard_of

DEFAULT_KEY = b"main"
CHUNK = 20_000
MAX_QUEUED = 100_000
DELIVERY_TIMEOUT_S = 60.0
MAX_AMOUNT = 100
RESULTS_POLL_S = 0.25
STALLED_S = 30.0
PRODUCER_SETTINGS = {
    # No client waits for a single one of these commands: large batches load faster.
    "linger.ms": 20,
    "batch.size": 1_000_000,
    "batch.num.messages": 10_000,
    "message.timeout.ms": int(DELIVERY_TIMEOUT_S * 1000),
}


class Transfers:
    """All commands of a run that can be derived from their positions, in little memory.

    The first open `accounts` accounts, as many deposit money into them, the rest transfer it.
    All transfers are valid: each account has enough for all of them.
    """

    def __init__(self, accounts: int, transfers: int, seed: int, run: str | None = None) -> None:
        """`run`: unique among the runs on one system; random by default."""
        rng = random.Random(seed)
        self._prefix = f"{run or uuid.uuid4().hex[:6]}-"
        self.accounts, self.transfers = accounts, transfers
        self._opening = transfers * MAX_AMOUNT
        sources = rng.choices(range(accounts), k=transfers)
        steps = rng.choices(range(1, accounts), k=transfers)
        self._sources = array("i", sources)
        self._targets = array(
            "i",
            ((source + step) % accounts for source, step in zip(sources, steps, strict=True)),
        )
        self._amounts = array("i", rng.choices(range(1, MAX_AMOUNT + 1), k=transfers))

    @property
    def first_transfer(self) -> int:
        """The position of the first transfer."""
        return 2 * self.accounts

    def __len__(self) -> int:
        return self.first_transfer + self.transfers

    def position(self, command_id: str) -> int | None:
        return position_in(self._prefix, command_id, len(self))

    def spec(self, position: int) -> CommandSpec:
        if position < self.accounts:
            return CommandSpec("open", f"a{position}")
        if position < self.first_transfer:
            return CommandSpec("deposit", f"a{position - self.accounts}", self._opening)
        i = position - self.first_transfer
        source, target = f"a{self._sources[i]}", f"a{self._targets[i]}"
        return CommandSpec("transfer", source, self._amounts[i], target)

    def is_unacknowledged(self, position: int) -> bool:
        """Always False: a preload fails as a whole or not at all."""
        del position
        return False

    def values(self) -> Iterator[bytes]:
        for position in range(self.first_transfer):
            yield encode(self.spec(position), f"{self._prefix}{position}")
        # Formatted directly: the same bytes as `encode` makes, in a third of the time.
        line = '{"type":"transfer","id":"%s%d","from":"a%d","to":"a%d","amount":%d}'
        prefix, position = self._prefix, self.first_transfer
        for source, target, amount in zip(self._sources, self._targets, self._amounts, strict=True):
            yield (line % (prefix, position, source, target, amount)).encode()
            position += 1


def preload_feed(system: BenchSystem, by_shard: Mapping[int, Transfers]) -> None:
    """Create the topics of a system without replicas, and fill its feed topic."""
    wanted = sum(map(len, by_shard.values()))
    with step(f"preloading {wanted:,} commands into {system.feed_topic}"):
        create_topics(system.kafka, system.topics, system.plan.shards)
        loaded = 0
        for shard, transfers in by_shard.items():
            key = key_of(shard, system.plan.shards)
            loaded += preload(system.kafka, system.feed_topic, shard, transfers.values(), key)
    if loaded != wanted:
        raise OperationFailed(f"only {loaded} of {wanted} commands could be queued")


def key_of(shard: int, shards: int) -> bytes:
    """The key of a ledger that belongs to a shard, which rejects the commands of others."""
    keys = (b"%s-%d" % (DEFAULT_KEY, number) if number else DEFAULT_KEY for number in count())
    return next(key for key in keys if shard_of(key, shards) == shard)


def preload(
    kafka: KafkaAccess,
    topic: str,
    partition: int,
    values: Iterator[bytes],
    key: bytes = DEFAULT_KEY,
) -> int:
    """Append all values; return how many, once Kafka has acknowledged every one."""
    producer, loaded = command_producer(kafka, topic, PRODUCER_SETTINGS), 0
    errors: list[str] = []

    def on_delivery(error: object, _message: object) -> None:
        errors.extend([str(error)] if error else [])

    while chunk := _chunk(values, key):
        chunk[-1]["callback"] = on_delivery
        loaded += producer.produce_batch(topic, chunk, partition=partition)
        show_status(f"preloaded {loaded:,} commands")
        while len(producer) > MAX_QUEUED:
            producer.poll(0.01)
    missing = producer.flush(DELIVERY_TIMEOUT_S)
    if missing or errors:
        reason = errors[0] if errors else f"{missing} records not acknowledged in time"
        raise OperationFailed(f"preloading {topic} failed: {reason}")
    return loaded


def _chunk(values: Iterator[bytes], key: bytes) -> list[dict[str, object]]:
    return [{"value": value, "key": key} for value in islice(values, CHUNK)]


def count_results(system: BenchSystem, ends: Mapping[int, int]) -> Iterator[dict[int, int]]:
    """How many results the results topic holds by shard, four times a second, until all `ends`.

    `ends`: how many results each shard will have. Raises `OperationFailed` when none comes for half
    a minute.
    """
    consumer, results, changed_s = follower(system.kafka), dict.fromkeys(ends, 0), time.monotonic()
    try:
        while any(results[shard] < end for shard, end in ends.items()):
            time.sleep(RESULTS_POLL_S)
            found = {shard: end_offset(consumer, system.results_topic, shard) for shard in ends}
            held = sum(found.values())
            if held > sum(results.values()):
                results, changed_s = found, time.monotonic()
            elif time.monotonic() - changed_s > STALLED_S:
                raise OperationFailed(f"no new result for {STALLED_S:g} s, after {held:,}")
            show_status(f"{held:,} of {sum(ends.values()):,} results")
            yield results
    finally:
        consumer.close()
