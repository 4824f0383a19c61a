"""Each output of a sink exactly once, for consumers outside Postjournal.

    from postjournal.subscribe import subscribe

    with subscribe("localhost:9092", "ledger.results", group="my-service") as results:
        while True:
            for output in results.poll(1.0):
                handle(output.value)
            results.commit()

Outputs carry a `seq`, dense from 0 per sink and shard. A deposed leader may publish some of them
a second time, late; a subscription returns each sequence once, in order. A sequence that is
missing raises `SequenceGap`.

The position is kept as the committed offset of the consumer group, with the last sequence in that
commit's metadata. An output that was returned but not committed is returned again after a crash:
at least once, as far as the program's effects are concerned. A program whose effects are in a
database makes them exactly-once by keeping the position there too, in the same transaction: see
`PositionStore`, and `postjournal.adapters.redis.projection` for an example.
"""

from __future__ import annotations

from collections.abc import Sequence

from postjournal.adapters.kafka.subscription import Start, Subscription
from postjournal.config.settings import KafkaAccess
from postjournal.core.errors import ConfigurationError, SequenceGap
from postjournal.core.sequence import (
    PartitionReader,
    Position,
    PositionStore,
    Progress,
    Received,
    SequenceTracker,
)

__all__ = [
    "KafkaAccess",
    "PartitionReader",
    "Position",
    "PositionStore",
    "Progress",
    "Received",
    "SequenceGap",
    "SequenceTracker",
    "Start",
    "Subscription",
    "subscribe",
]


def subscribe(
    bootstrap: str | KafkaAccess,
    topic: str,
    *,
    group: str | None = None,
    positions: PositionStore | None = None,
    partitions: Sequence[int] | None = None,
    start: Start = "beginning",
) -> Subscription:
    """Follow a sink's topic; nothing is read before the first `poll`.

    `bootstrap`: Kafka's host:port list; the credentials then come from this process's variables
    POSTJOURNAL_KAFKA_USERNAME and so on. A `KafkaAccess` has its own. `group`: a consumer group,
    which shares the partitions among its members and keeps the positions, unless `positions` is
    another store for them. Without a group this subscriber reads `partitions`, by default all of
    the topic's, and `positions` is required. `start`: where to begin without a position.

    Raises `ConfigurationError` when neither `group` nor `positions` is given, when both `group`
    and `partitions` are, or when a variable is invalid.
    """
    if group is None and positions is None:
        raise ConfigurationError("subscribe: give a group, or a store for the positions")
    if group is not None and partitions is not None:
        raise ConfigurationError(
            "subscribe: a group assigns the partitions itself: give either group or partitions"
        )
    if isinstance(bootstrap, str):
        bootstrap = KafkaAccess.from_environment().at(bootstrap)
    return Subscription(
        bootstrap, topic, group=group, positions=positions, partitions=partitions, start=start
    )
