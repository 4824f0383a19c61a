"""Fills the feed topic with transfers that are all valid, quickly."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator
from itertools import islice

from loadtest.bench_system import Stage
from loadtest.progress import (
    show,
    step,
)
from loadtest.workload.commands import Order, encode, position_in
from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.admin import ensure_topics, wait_for_kafka
from postjournal.adapters.kafka.producer import DeliveryFailed, RecordProducer
from postjournal.cli.errors import OperationFailed
from postjournal.config.settings import KafkaAccess

CHUNK = 20_000
QUEUED_MOST = 100_000
PATIENCE_S = 60.0
LARGEST_AMOUNT = 100


class Transfers:
    """All commands of a throughput run, in little memory: see `orders.Orders`.

    The first open `accounts` accounts, as many put money into them, the rest move it. No
    account can run dry: each has enough for all transfers to be its own.
    """

    def __init__(self, run: str, accounts: int, transfers: int, seed: int) -> None:
        """`run` must be unique among the runs on one system."""
        rng = random.Random(seed)
        self._prefix = f"{run}-"
        self.accounts, self.transfers = accounts, transfers
        self._opening = transfers * LARGEST_AMOUNT
        sources = rng.choices(range(accounts), k=transfers)
        steps = rng.choices(range(1, accounts), k=transfers)
        self._sources = array("i", sources)
        self._to = array(
            "i", ((one + step) % accounts for one, step in zip(sources, steps, strict=True))
        )
        self._amounts = array("i", rng.choices(range(1, LARGEST_AMOUNT + 1), k=transfers))

    @property
    def first_transfer(self) -> int:
        """The position of the first command that moves money."""
        return 2 * self.accounts

    def __len__(self) -> int:
        """How many commands there are."""
        return self.first_transfer + self.transfers

    def position(self, command_id: str) -> int | None:
        """See `Orders`."""
        return position_in(self._prefix, command_id, len(self))

    def order(self, position: int) -> Order:
        """See `Orders`."""
        if position < self.accounts:
            return Order("open", f"a{position}")
        if position < self.first_transfer:
            return Order("deposit", f"a{position - self.accounts}", self._opening)
        i = position - self.first_transfer
        return Order("transfer", f"a{self._sources[i]}", self._amounts[i], f"a{self._to[i]}")

    def unacknowledged(self, position: int) -> bool:
        """The preload fails as a whole or not at all."""
        del position
        return False

    def values(self) -> Iterator[bytes]:
        """The records, in order."""
        for position in range(self.first_transfer):
            yield encode(self.order(position), f"{self._prefix}{position}")
        # By hand: the same bytes as `encode` makes, in a third of the time.
        line = '{"type":"transfer","id":"%s%d","from":"a%d","to":"a%d","amount":%d}'
        prefix, position = self._prefix, self.first_transfer
        for source, to, amount in zip(self._sources, self._to, self._amounts, strict=True):
            yield (line % (prefix, position, source, to, amount)).encode()
            position += 1


def preload_feed(stage: Stage, shard: int, transfers: Transfers) -> None:
    """Make the topics of a system without replicas, and fill its feed."""
    topics = stage.topics
    feed = topics.source_topics[1]
    with step(f"preloading {len(transfers):,} commands into {feed}"):
        ensure_topics(wait_for_kafka(stage.kafka), topics, stage.plan.shards, 1)
        loaded = preload(stage.kafka, feed, shard, transfers.values())
    if loaded != len(transfers):
        raise OperationFailed(f"only {loaded} of {len(transfers)} commands could be queued")


def preload(kafka: KafkaAccess, topic: str, partition: int, values: Iterator[bytes]) -> int:
    """Append all values; returns how many when Kafka has acknowledged every one."""
    config = kafka_settings.gateway_producer(kafka) | {
        # Nobody waits for a single one of these: large batches load faster.
        "linger.ms": 20,
        "batch.size": 1_000_000,
        "batch.num.messages": 10_000,
        "message.timeout.ms": int(PATIENCE_S * 1000),
    }
    producer, loaded = RecordProducer(config), 0
    errors: list[str] = []

    def report(_: int, failure: DeliveryFailed | None) -> None:
        errors.extend([failure.reason] if failure else [])

    while chunk := list(islice(values, CHUNK)):
        loaded += producer.send_all(
            topic, chunk, partition=partition, key=b"main", on_delivery=report
        )
        show(f"preloaded {loaded:,} commands")
        while producer.queued() > QUEUED_MOST:
            producer.poll(0.01)
    if producer.flush(PATIENCE_S) or errors:
        raise OperationFailed(f"the preload failed: {errors[0] if errors else 'Kafka is slow'}")
    return loaded
